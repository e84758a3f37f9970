// Measures packets between pairs of network namespaces, both ends in one thread on one CPU, in short
// interleaved slots: no scheduler and no neighbour's load between two numbers that are to be compared.
//
//   traffic KIND SLOTS SLOT_MS CPU PAIR...      PAIR = name,client-netns,server-netns,server-address
//   KIND    rtt   one byte to and fro over an open TCP connection: microseconds, p50 and p99 of the slot
//           udp   64-byte UDP datagrams, received: packets/s
//           crr   TCP connect, one byte each way, reset: connections/s
//           bulk  one TCP stream: bytes/s
//
// Prints a line `slot pair p50 p99` (rtt) or `slot pair value` for each slot. Exits 1 with a message on any
// failure: a pair that can't talk is no measurement.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PAIRS = 16, MAX_SAMPLES = 1 << 16, UDP_BYTES = 64 - 42, UDP_BURST = 32, BULK_BYTES = 1 << 16 };

struct pair {
	const char *name;
	int client_ns, server_ns;
	struct sockaddr_storage server;
	socklen_t length;
	int listener, client, peer;
};

static void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int socket_in(int ns, int family, int type)
{
	if (setns(ns, CLONE_NEWNET))
		die("setns");
	int fd = socket(family, type, 0);
	if (fd < 0)
		die("socket");
	return fd;
}

static void parse_pair(struct pair *pair, char *text)
{
	char *field[4];
	for (int i = 0; i < 4; i++)
		if (!(field[i] = strsep(&text, ","))) {
			errno = EINVAL;
			die("a pair is name,client-netns,server-netns,server-address");
		}
	pair->name = field[0];
	pair->client_ns = open(field[1], O_RDONLY | O_CLOEXEC);
	pair->server_ns = open(field[2], O_RDONLY | O_CLOEXEC);
	if (pair->client_ns < 0 || pair->server_ns < 0)
		die("open netns");
	struct sockaddr_in *v4 = (struct sockaddr_in *)&pair->server;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&pair->server;
	if (inet_pton(AF_INET, field[3], &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		pair->length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, field[3], &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		pair->length = sizeof(*v6);
	} else {
		errno = EINVAL;
		die(field[3]);
	}
	pair->listener = pair->client = pair->peer = -1;
}

static void listen_on(struct pair *pair, int type)
{
	pair->listener = socket_in(pair->server_ns, pair->server.ss_family, type);
	if (bind(pair->listener, (struct sockaddr *)&pair->server, pair->length))
		die("bind");
	if (getsockname(pair->listener, (struct sockaddr *)&pair->server, &pair->length))
		die("getsockname");
	if (type == SOCK_STREAM && listen(pair->listener, 1024))
		die("listen");
}

static void dial(struct pair *pair)
{
	int one = 1;
	struct timeval patience = {.tv_sec = 2};
	pair->client = socket_in(pair->client_ns, pair->server.ss_family, SOCK_STREAM);
	setsockopt(pair->client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(pair->client, (struct sockaddr *)&pair->server, pair->length))
		die("connect");
	pair->peer = accept(pair->listener, NULL, NULL);
	if (pair->peer < 0)
		die("accept");
	setsockopt(pair->client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(pair->peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(pair->client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(pair->peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static void hang_up(struct pair *pair)
{
	struct linger reset = {.l_onoff = 1};
	setsockopt(pair->client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(pair->client);
	close(pair->peer);
}

static void bounce(const struct pair *pair)
{
	char byte = 'm';
	if (send(pair->client, &byte, 1, 0) != 1 || recv(pair->peer, &byte, 1, 0) != 1)
		die("request");
	if (send(pair->peer, &byte, 1, 0) != 1 || recv(pair->client, &byte, 1, 0) != 1)
		die("reply");
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static void slot_rtt(struct pair *pair, int slot, uint64_t end)
{
	static uint32_t samples[MAX_SAMPLES];
	int n = 0;
	for (uint64_t begun = now_ns(); begun < end && n < MAX_SAMPLES;) {
		bounce(pair);
		uint64_t done = now_ns();
		samples[n++] = (uint32_t)(done - begun);
		begun = done;
	}
	qsort(samples, (size_t)n, sizeof(*samples), by_value);
	printf("%d %s %.3f %.3f\n", slot, pair->name, samples[n / 2] / 1e3, samples[n * 99 / 100] / 1e3);
}

static void slot_udp(struct pair *pair, int slot, uint64_t end)
{
	char data[UDP_BYTES] = {0};
	uint64_t received = 0, begun = now_ns(), done = begun;
	while (done < end) {
		for (int i = 0; i < UDP_BURST; i++)
			if (send(pair->client, data, sizeof(data), 0) != sizeof(data))
				die("send");
		while (recv(pair->listener, data, sizeof(data), MSG_DONTWAIT) > 0)
			received++;
		done = now_ns();
	}
	if (!received) {
		errno = ETIMEDOUT;
		die("no datagram arrived");
	}
	printf("%d %s %.1f\n", slot, pair->name, received * 1e9 / (double)(done - begun));
}

static void slot_crr(struct pair *pair, int slot, uint64_t end)
{
	uint64_t n = 0, begun = now_ns(), done = begun;
	for (; done < end; n++, done = now_ns()) {
		dial(pair);
		bounce(pair);
		hang_up(pair);
	}
	printf("%d %s %.1f\n", slot, pair->name, n * 1e9 / (double)(done - begun));
}

static void slot_bulk(struct pair *pair, int slot, uint64_t end)
{
	static char data[BULK_BYTES];
	uint64_t moved = 0, begun = now_ns(), done = begun;
	for (; done < end; done = now_ns()) {
		send(pair->client, data, sizeof(data), MSG_DONTWAIT);
		for (ssize_t n; (n = recv(pair->peer, data, sizeof(data), MSG_DONTWAIT)) > 0;)
			moved += (uint64_t)n;
	}
	if (!moved) {
		errno = ETIMEDOUT;
		die("the stream stands still");
	}
	printf("%d %s %.1f\n", slot, pair->name, moved * 1e9 / (double)(done - begun));
}

typedef void (*slot_fn)(struct pair *, int, uint64_t);

static slot_fn kind_named(const char *kind)
{
	if (!strcmp(kind, "rtt"))
		return slot_rtt;
	if (!strcmp(kind, "udp"))
		return slot_udp;
	if (!strcmp(kind, "crr"))
		return slot_crr;
	if (!strcmp(kind, "bulk"))
		return slot_bulk;
	errno = EINVAL;
	die(kind);
	return NULL;
}

static void open_pair(struct pair *pair, slot_fn run)
{
	listen_on(pair, run == slot_udp ? SOCK_DGRAM : SOCK_STREAM);
	if (run == slot_rtt || run == slot_bulk)
		dial(pair);
	if (run == slot_udp) {
		pair->client = socket_in(pair->client_ns, pair->server.ss_family, SOCK_DGRAM);
		if (connect(pair->client, (struct sockaddr *)&pair->server, pair->length))
			die("connect");
	}
}

int main(int argc, char **argv)
{
	if (argc < 6 || argc - 5 > MAX_PAIRS) {
		fprintf(stderr, "usage: traffic rtt|udp|crr|bulk SLOTS SLOT_MS CPU PAIR...\n");
		return 2;
	}
	slot_fn run = kind_named(argv[1]);
	int slots = atoi(argv[2]), pairs = argc - 5;
	uint64_t slot_ns = (uint64_t)atoi(argv[3]) * 1000000u;
	cpu_set_t cpu;
	CPU_ZERO(&cpu);
	CPU_SET(atoi(argv[4]), &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		die("sched_setaffinity");

	struct pair pair[MAX_PAIRS] = {0}; /* port 0: any that is free */
	for (int i = 0; i < pairs; i++) {
		parse_pair(&pair[i], argv[5 + i]);
		open_pair(&pair[i], run);
	}
	// Each round starts with another pair, so that no pair always follows the same one.
	for (int slot = 0; slot < slots; slot++)
		for (int i = 0; i < pairs; i++)
			run(&pair[(slot + i) % pairs], slot, now_ns() + slot_ns);
	return 0;
}
