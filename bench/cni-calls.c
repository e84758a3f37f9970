// A container runtime's CNI calls, so many at a time: each a process of the plugin, from its start to its
// end. Part of test/cni-times.ts; in C, since starting a process takes Node longer than the calls that are
// measured. cni-calls PLUGIN CONFIG COMMAND WIDTH NETNS... prints the microseconds that each call took, a
// line each.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WIDTH_MAX 256

struct call {
	pid_t pid; // 0: this place is free
	int output;
	long long start_ns;
};

static struct call calls[WIDTH_MAX];

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

// `netns`: a file /run/netns/PREFIX-POD. The pod's name is what follows its last dash.
static void start(struct call *call, char *plugin, const char *config, const char *command, const char *netns)
{
	char variables[6][512];
	char *environment[7], *arguments[] = {plugin, NULL};
	const char *path = getenv("CNI_PATH");
	const char *pod = strrchr(netns, '-') + 1;
	posix_spawn_file_actions_t actions;

	snprintf(variables[0], sizeof(variables[0]), "CNI_COMMAND=%s", command);
	snprintf(variables[1], sizeof(variables[1]), "CNI_CONTAINERID=c%s", pod);
	snprintf(variables[2], sizeof(variables[2]), "CNI_NETNS=%s", netns);
	snprintf(variables[3], sizeof(variables[3]), "CNI_IFNAME=eth0");
	snprintf(variables[4], sizeof(variables[4]),
		 "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=%s", pod);
	snprintf(variables[5], sizeof(variables[5]), "CNI_PATH=%s", path ? path : "");
	for (int i = 0; i < 6; i++)
		environment[i] = variables[i];
	environment[6] = NULL;
	call->output = memfd_create("output", MFD_CLOEXEC);
	if (call->output < 0)
		die("memfd_create");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, config, O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, call->output, STDOUT_FILENO);
	call->start_ns = now_ns();
	if (posix_spawn(&call->pid, plugin, &actions, NULL, arguments, environment) != 0)
		die(plugin);
	posix_spawn_file_actions_destroy(&actions);
}

// Waits for any of the calls to end, says how long it took, and returns its place. A call that fails ends
// all.
static struct call *finish(void)
{
	int status;
	pid_t pid = wait(&status);
	long long end_ns = now_ns();

	for (int i = 0; i < WIDTH_MAX; i++) {
		char text[4096] = "";

		if (pid <= 0 || calls[i].pid != pid)
			continue;
		if (status != 0) {
			if (pread(calls[i].output, text, sizeof(text) - 1, 0) < 0)
				die("pread");
			fprintf(stderr, "a call failed: %s\n", text);
			exit(1);
		}
		printf("%lld\n", (end_ns - calls[i].start_ns) / 1000);
		close(calls[i].output);
		calls[i].pid = 0;
		return &calls[i];
	}
	die("wait");
	return NULL;
}

int main(int argc, char **argv)
{
	int width = argc > 5 ? atoi(argv[4]) : 0, running = 0;

	if (width < 1 || width > WIDTH_MAX) {
		fprintf(stderr, "usage: cni-calls PLUGIN CONFIG COMMAND WIDTH NETNS...\n");
		return 2;
	}
	for (int next = 5; next < argc; next++) {
		struct call *place = running < width ? &calls[running++] : finish();

		start(place, argv[1], argv[2], argv[3], argv[next]);
	}
	while (running-- > 0)
		finish();
	return fflush(stdout) == 0 ? 0 : 1;
}
