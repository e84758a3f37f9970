// What the images of the example shop run on the cluster: `shop serve PORT…` answers on those ports what it
// is told, and asks other pods as `shop talk`, `shop try` and `shop report` in the same pod tell it to. It
// counts, and judges nothing. SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_PORTS = 64,
	MAX_PEERS = 1024,
	MAX_TALKS = 64,
	MAX_TRIES = 256,
	TICK_MS = 20,
	ASK_EVERY_MS = 50,
	TRY_EVERY_MS = 250,
	// A connection that takes longer has lost its first packet twice.
	TRY_LIMIT_MS = 2500,
	TRY_SLOTS = TRY_LIMIT_MS / TRY_EVERY_MS + 2,
	LINE_SIZE = 16 * 1024,
	REPORT_SIZE = 64 * 1024,
};

// Where a connection goes, and how it was written.
struct target {
	struct sockaddr_storage address;
	char text[80];
};

// A connection that stands: each question is answered before the next one is asked.
struct talk {
	struct target target;
	int fd; // -1: it has ended
	int opened;
	long asked_ms; // 0: no question waits
	long next_ms;
	long longest_ms;
	unsigned long answers;
};

// New connections without end, several at once, each closed as soon as its fate is known.
struct
try {
	struct target target;
	int fds[TRY_SLOTS]; // -1: free
	long begun_ms[TRY_SLOTS];
	long next_ms;
	unsigned long tries, passed, refused, silent;
};

static struct talk talks[MAX_TALKS];
static struct try tries[MAX_TRIES];
static int peers[MAX_PEERS];
static int talk_count, try_count, peer_count;

static long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

static void fail(const char *what)
{
	fprintf(stderr, "shop: %s: %s\n", what, strerror(errno));
	exit(1);
}

// 0 where it is no address and port.
static int read_target(const char *host, const char *port, struct target *target)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&target->address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&target->address;
	int number = atoi(port);

	memset(target, 0, sizeof *target);
	snprintf(target->text, sizeof target->text, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, number);
	if (number < 1 || number > 65535)
		return 0;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(number);
		return 1;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(number);
	return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static int begin_connection(const struct target *target)
{
	int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (connect(fd, (const struct sockaddr *)&target->address, sizeof target->address) < 0 &&
	    errno != EINPROGRESS) {
		int code = errno;
		close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

static int ready(int fd, short what)
{
	struct pollfd one = {.fd = fd, .events = what};
	return poll(&one, 1, 0) > 0;
}

// What a connect(2) under way has come to: 0 or an errno; -1 while it is not known.
static int fate(int fd)
{
	int code = 0;
	socklen_t size = sizeof code;

	if (!ready(fd, POLLOUT))
		return -1;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
	return code;
}

static void end_talk(struct talk *talk)
{
	close(talk->fd);
	talk->fd = -1;
}

static void go_on_talking(struct talk *talk, long now)
{
	char word[16];

	if (talk->fd < 0)
		return;
	if (!talk->opened) {
		int code = fate(talk->fd);
		if (code > 0)
			end_talk(talk);
		if (code != 0)
			return;
		talk->opened = 1;
	}
	if (talk->asked_ms != 0) {
		ssize_t got = recv(talk->fd, word, sizeof word, MSG_DONTWAIT);
		if (now - talk->asked_ms > talk->longest_ms)
			talk->longest_ms = now - talk->asked_ms;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			end_talk(talk);
			return;
		}
		talk->answers++;
		talk->asked_ms = 0;
	}
	if (now < talk->next_ms)
		return;
	if (send(talk->fd, "?", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1) {
		end_talk(talk);
		return;
	}
	talk->asked_ms = now;
	talk->next_ms = now + ASK_EVERY_MS;
}

static void settle(struct try *try, int slot, int code)
{
	if (code == 0)
		try->passed++;
	else if (code == ECONNREFUSED)
		try->refused++;
	else
		try->silent++;
	if (try->fds[slot] >= 0)
		close(try->fds[slot]);
	try->fds[slot] = -1;
}

static void go_on_trying(struct try *try, long now)
{
	int slot, spare = -1;

	for (slot = 0; slot < TRY_SLOTS; slot++) {
		if (try->fds[slot] >= 0) {
			int code = fate(try->fds[slot]);
			if (code >= 0)
				settle(try, slot, code);
			else if (now - try->begun_ms[slot] > TRY_LIMIT_MS)
				settle(try, slot, ETIMEDOUT);
		}
		if (try->fds[slot] < 0)
			spare = slot;
	}
	if (now < try->next_ms || spare < 0)
		return;
	try->next_ms = now + TRY_EVERY_MS;
	try->tries++;
	try->begun_ms[spare] = now;
	try->fds[spare] = begin_connection(&try->target);
	if (try->fds[spare] < 0)
		settle(try, spare, errno);
}

// Says back to peers what they say; those that are gone leave their place to the last one.
static void answer_peers(void)
{
	char text[512];

	for (int i = 0; i < peer_count;) {
		ssize_t got = recv(peers[i], text, sizeof text, MSG_DONTWAIT);
		if (got > 0)
			got = send(peers[i], text, got, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (got > 0 || (got < 0 && errno == EAGAIN)) {
			i++;
			continue;
		}
		close(peers[i]);
		peers[i] = peers[--peer_count];
	}
}

static void report(char *text)
{
	size_t used = 0;

	text[0] = 0;
	for (int i = 0; i < talk_count; i++) {
		const struct talk *talk = &talks[i];
		const char *state =
		    talk->fd >= 0 ? (talk->opened ? "open" : "opening") : (talk->opened ? "lost" : "refused");
		used += snprintf(text + used, REPORT_SIZE - used, "talk %s %s answers=%lu longest_ms=%ld\n",
				 talk->target.text, state, talk->answers, talk->longest_ms);
	}
	for (int i = 0; i < try_count; i++) {
		const struct try *try = &tries[i];
		used += snprintf(text + used, REPORT_SIZE - used,
				 "try %s tries=%lu passed=%lu refused=%lu silent=%lu\n", try->target.text,
				 try->tries, try->passed, try->refused, try->silent);
	}
}

static void add_talk(const struct target *target)
{
	struct talk *talk = &talks[talk_count++];

	memset(talk, 0, sizeof *talk);
	talk->target = *target;
	talk->fd = begin_connection(target);
}

static void add_try(const struct target *target)
{
	struct try *try = &tries[try_count++];

	memset(try, 0, sizeof *try);
	try->target = *target;
	memset(try->fds, 0xff, sizeof try->fds);
}

// `talk ADDRESS PORT…`, `try ADDRESS PORT…`, `report`: what is to be said back, in `text`.
static void obey(char *line, char *text)
{
	const char *word = strtok(line, " "), *host, *port;
	int is_talk = word != NULL && strcmp(word, "talk") == 0;
	struct target target;

	text[0] = 0;
	if (word != NULL && strcmp(word, "report") == 0) {
		report(text);
		return;
	}
	if (!is_talk && (word == NULL || strcmp(word, "try") != 0)) {
		snprintf(text, REPORT_SIZE, "shop: talk, try or report\n");
		return;
	}
	while ((host = strtok(NULL, " ")) != NULL) {
		port = strtok(NULL, " ");
		if (port == NULL || !read_target(host, port, &target)) {
			snprintf(text, REPORT_SIZE, "shop: no address and port: %s %s\n", host,
				 port == NULL ? "" : port);
			return;
		}
		if (is_talk ? talk_count == MAX_TALKS : try_count == MAX_TRIES) {
			snprintf(text, REPORT_SIZE, "shop: no more than %d talks and %d tries\n", MAX_TALKS,
				 MAX_TRIES);
			return;
		}
		(is_talk ? add_talk : add_try)(&target);
	}
}

static int listen_on(int port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int on = 1, fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 256) < 0)
		fail("listening");
	return fd;
}

// The pod's own: an abstract name belongs to its network namespace.
static int control(int is_server)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0shop"};
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + 5;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 ||
	    (is_server ? bind(fd, (struct sockaddr *)&name, size)
		       : connect(fd, (struct sockaddr *)&name, size)) < 0 ||
	    (is_server && listen(fd, 16) < 0))
		fail("the pod's own socket");
	return fd;
}

static void end(int number)
{
	(void)number;
	_exit(0);
}

static void serve(int count, char **ports)
{
	static char line[LINE_SIZE], text[REPORT_SIZE];
	int listeners[MAX_PORTS], own = control(1);

	// A first process has no default for these.
	signal(SIGTERM, end);
	signal(SIGINT, end);
	for (int i = 0; i < count; i++)
		listeners[i] = listen_on(atoi(ports[i]));
	for (;; usleep(TICK_MS * 1000)) {
		for (int i = 0; i < count; i++)
			for (int fd; peer_count < MAX_PEERS &&
				     (fd = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC)) >= 0;)
				peers[peer_count++] = fd;
		answer_peers();
		for (int i = 0; i < talk_count; i++)
			go_on_talking(&talks[i], now_ms());
		for (int i = 0; i < try_count; i++)
			go_on_trying(&tries[i], now_ms());
		while (ready(own, POLLIN)) {
			int fd = accept4(own, NULL, NULL, SOCK_CLOEXEC);
			ssize_t got = recv(fd, line, sizeof line - 1, 0);
			if (got > 0) {
				line[got] = 0;
				obey(line, text);
				send(fd, text, strlen(text), MSG_NOSIGNAL);
			}
			close(fd);
		}
	}
}

static int tell(int count, char **words)
{
	static char text[REPORT_SIZE];
	char line[LINE_SIZE] = "";
	int fd = control(0);

	for (int i = 0; i < count; i++) {
		strncat(line, words[i], sizeof line - strlen(line) - 2);
		strcat(line, " ");
	}
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 || recv(fd, text, sizeof text - 1, 0) < 0)
		fail("the pod's own socket");
	fputs(text, strncmp(text, "shop: ", 6) == 0 ? stderr : stdout);
	return strncmp(text, "shop: ", 6) == 0;
}

int main(int count, char **words)
{
	if (count > 2 && count - 2 <= MAX_PORTS && strcmp(words[1], "serve") == 0)
		serve(count - 2, words + 2);
	if (count > 1)
		return tell(count - 1, words + 1);
	fputs("shop serve PORT…, or in its pod: talk ADDRESS PORT…, try ADDRESS PORT…, report\n", stderr);
	return 2;
}
