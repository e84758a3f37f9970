// Measures packets between pairs of network namespaces, both ends in one thread on one CPU, in short
// interleaved slots: no scheduler and no neighbour's load between two numbers that are to be compared.
//
//   traffic KIND SLOTS SLOT_MS CPU PAIR...      PAIR = name,client-netns,server-netns,server-address; and for
//   a server behind a Service ,server-port,service-address,service-port
//   KIND    rtt   one byte to and fro over an open TCP connection: microseconds
//           udp   64-byte UDP datagrams in bursts of 32, received: packets/s
//           cpu   64-byte UDP datagrams one by one: nanoseconds of CPU a packet, both ends and all between
//           them crr   TCP connect, one byte each way, reset: connections/s new   the same: microseconds bulk
//           one TCP stream: bytes/s
//
// A slot is dealt out in pieces of about 2 ms, in random order among the pieces of all pairs, so that what
// the machine does meanwhile (another speed, other guests of its host, its clock's interrupts) meets every
// pair alike. Each piece begins with work that does not count, which warms the caches. The thread has a
// real-time priority: nothing else that runs here takes its CPU in the middle of a piece.
//
// Prints a line `slot pair value` for each slot; for rtt and new its p50 and p99, and at the end `all pair
// p50 p99`, of the samples of all slots. Exits 1 with a message on any failure: a pair that can't talk is no
// measurement.
#define _GNU_SOURCE
#include <time.h>
#include "pair.h"

enum { MAX_PAIRS = 64, UDP_BYTES = 64 - 42, UDP_BURST = 32, BULK_BYTES = 1 << 16 };
enum { PIECE_NS = 2000000, WARM_NS = 150000, PRIORITY = 50 };

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* One step of a kind of traffic; gives what it moved: round trips, packets, connections or bytes. */
typedef uint64_t (*step_fn)(struct pair *);

static uint64_t step_rtt(struct pair *pair)
{
	char byte = 'm';
	if (send(pair->client, &byte, 1, 0) != 1 || recv(pair->peer, &byte, 1, 0) != 1)
		die(pair->name);
	if (send(pair->peer, &byte, 1, 0) != 1 || recv(pair->client, &byte, 1, 0) != 1)
		die(pair->name);
	return 1;
}

static uint64_t step_udp(struct pair *pair)
{
	char data[UDP_BYTES] = {0};
	uint64_t received = 0;
	for (int i = 0; i < UDP_BURST; i++)
		if (send(pair->client, data, sizeof(data), 0) != sizeof(data))
			die(pair->name);
	while (recv(pair->listener, data, sizeof(data), MSG_DONTWAIT) > 0)
		received++;
	return received;
}

static uint64_t step_cpu(struct pair *pair)
{
	char data[UDP_BYTES] = {0};
	if (send(pair->client, data, sizeof(data), 0) != sizeof(data))
		die(pair->name);
	if (recv(pair->listener, data, sizeof(data), 0) != sizeof(data))
		die(pair->name);
	return 1;
}

static uint64_t step_crr(struct pair *pair)
{
	dial(pair);
	step_rtt(pair);
	hang_up(pair);
	return 1;
}

static uint64_t step_bulk(struct pair *pair)
{
	static char data[BULK_BYTES];
	uint64_t moved = 0;
	send(pair->client, data, sizeof(data), MSG_DONTWAIT);
	for (ssize_t n; (n = recv(pair->peer, data, sizeof(data), MSG_DONTWAIT)) > 0;)
		moved += (uint64_t)n;
	return moved;
}

struct kind {
	const char *name;
	step_fn step;
	int type, dialled;
	clockid_t clock;
	int sampled; /* microseconds of each step are told, and no rate */
};

static const struct kind kinds[] = {
    {"rtt", step_rtt, SOCK_STREAM, 1, CLOCK_MONOTONIC, 1},
    {"new", step_crr, SOCK_STREAM, 0, CLOCK_MONOTONIC, 1},
    {"udp", step_udp, SOCK_DGRAM, 0, CLOCK_MONOTONIC},
    {"cpu", step_cpu, SOCK_DGRAM, 0, CLOCK_THREAD_CPUTIME_ID},
    {"crr", step_crr, SOCK_STREAM, 0, CLOCK_MONOTONIC},
    {"bulk", step_bulk, SOCK_STREAM, 1, CLOCK_MONOTONIC},
};

static const struct kind *kind_named(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	errno = EINVAL;
	die(name);
	return NULL;
}

static void open_pair(struct pair *pair, const struct kind *kind)
{
	listen_on(pair, kind->type);
	if (kind->dialled)
		dial(pair);
	if (kind->type == SOCK_DGRAM) {
		be_impatient(pair->listener);
		pair->client = socket_in(pair->client_ns, pair->server.ss_family, SOCK_DGRAM);
		be_impatient(pair->client);
		if (connect(pair->client, (struct sockaddr *)&pair->meant, pair->length))
			die("connect");
		answer_once(pair);
	}
}

static void keep_sample(struct pair *pair, uint64_t ns)
{
	if (pair->count == pair->room) {
		pair->room = pair->room ? 2 * pair->room : 1 << 16;
		pair->samples = realloc(pair->samples, pair->room * sizeof(*pair->samples));
		if (!pair->samples)
			die("samples");
	}
	pair->samples[pair->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static void run_piece(struct pair *pair, const struct kind *kind, uint64_t length_ns)
{
	uint64_t entered = now_ns();
	while (now_ns() < entered + WARM_NS)
		kind->step(pair);
	uint64_t begun = now_ns(), before = clock_ns(kind->clock), last = begun, done = begun;
	for (; done < begun + length_ns; last = done) {
		pair->amount += kind->step(pair);
		done = now_ns();
		if (kind->sampled)
			keep_sample(pair, done - last);
	}
	pair->ns += clock_ns(kind->clock) - before;
	pair->taken += done - entered;
}

static uint32_t drawn(uint32_t below)
{
	static uint64_t state = 0x9e3779b97f4a7c15u;
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

/*
 * One piece of every pair, in random order; then a rest, for what else the kernel has to do on this CPU. A
 * pair so slow that one step outlasts a piece sits out until the others have had as much time.
 */
static void deal(struct pair *pair, int pairs, int turn, const struct kind *kind)
{
	int order[MAX_PAIRS];
	for (int i = 0; i < pairs; i++) {
		int j = (int)drawn((uint32_t)i + 1);
		order[i] = order[j];
		order[j] = i;
	}
	uint64_t begun = now_ns();
	for (int i = 0; i < pairs; i++)
		if (pair[order[i]].taken <= (uint64_t)turn * 2 * PIECE_NS)
			run_piece(&pair[order[i]], kind, PIECE_NS * 3 / 4 + drawn(PIECE_NS / 2));
	struct timespec rest = {.tv_nsec = (long)((now_ns() - begun) / 12)};
	nanosleep(&rest, NULL);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static void print_samples(const char *slot, const struct pair *pair, size_t first)
{
	uint32_t *samples = pair->samples + first;
	size_t n = pair->count - first;
	qsort(samples, n, sizeof(*samples), by_value);
	printf("%s %s %.3f %.3f\n", slot, pair->name, samples[n / 2] / 1e3, samples[n * 99 / 100] / 1e3);
}

static void print_slot(int slot, struct pair *pair, const struct kind *kind)
{
	char number[12];
	snprintf(number, sizeof(number), "%d", slot);
	if (!pair->amount) {
		errno = ETIMEDOUT;
		die(pair->name);
	}
	double per_unit = (double)pair->ns / (double)pair->amount;
	if (kind->sampled)
		print_samples(number, pair, pair->first);
	else
		printf("%d %s %.1f\n", slot, pair->name, kind->step == step_cpu ? per_unit : 1e9 / per_unit);
	pair->amount = pair->ns = pair->taken = 0;
	pair->first = pair->count;
}

/* Alone on one CPU, with a priority above all that is no interrupt. */
static void take_cpu(int number)
{
	cpu_set_t cpu;
	CPU_ZERO(&cpu);
	CPU_SET(number, &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		die("sched_setaffinity");
	struct sched_param priority = {.sched_priority = PRIORITY};
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		die("sched_setscheduler");
}

int main(int argc, char **argv)
{
	if (argc < 6 || argc - 5 > MAX_PAIRS) {
		fprintf(stderr, "usage: traffic rtt|udp|cpu|new|crr|bulk SLOTS SLOT_MS CPU PAIR...\n");
		return 2;
	}
	const struct kind *kind = kind_named(argv[1]);
	int slots = atoi(argv[2]), pieces = atoi(argv[3]) * 1000000 / PIECE_NS, pairs = argc - 5;
	take_cpu(atoi(argv[4]));
	struct pair pair[MAX_PAIRS] = {0}; /* port 0: any that is free */
	for (int i = 0; i < pairs; i++) {
		parse_pair(&pair[i], argv[5 + i]);
		open_pair(&pair[i], kind);
	}
	for (int slot = 0; slot < slots; slot++) {
		for (int piece = 0; piece < pieces; piece++)
			deal(pair, pairs, piece, kind);
		for (int i = 0; i < pairs; i++)
			print_slot(slot, &pair[i], kind);
	}
	for (int i = 0; i < pairs && kind->sampled; i++)
		print_samples("all", &pair[i], 0);
	return 0;
}
