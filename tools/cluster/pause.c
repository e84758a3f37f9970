// The first process of a machine of the cluster, and of a pod: it stays, and its children need nobody to
// collect them. SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(void)
{
	// signal(7): whoever ignores SIGCHLD has no zombies, be they children that it was given.
	signal(SIGCHLD, SIG_IGN);
	// A first process has no default for these.
	signal(SIGTERM, end);
	signal(SIGINT, end);
	for (;;)
		pause();
}
