// The CNI plugin (CNI 1.1): hands each call to the node's agent as one JSON line, and prints what comes back.
// It knows no network: of the configuration it reads three texts, `cniVersion`, `socket` (the agent's) and
// `spool` (a folder for DELs while the agent is away). Static, since a host has neither Node nor a particular
// libc.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "scan.h"
#include "spool.h"

// What the agent takes as a request (src/agent/server.ts) bounds the line; the rest bounds what leads to it.
#define LINE_MAX_BYTES (1024 * 1024)
#define CONFIG_MAX_BYTES (512 * 1024)
#define REPLY_MAX_BYTES (256 * 1024)
#define TEXT_MAX_BYTES 256
// Longer than the agent waits for a pod's policy, and far below a kubelet's own limit.
#define REPLY_LIMIT_MS 10000
#define SUPPORTED "[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]"
#define LATEST "1.1.0"

// Error codes of the CNI specification.
enum cni_code {
	BAD_ENVIRONMENT = 4,
	IO_FAILURE = 5,
	BAD_JSON = 6,
	BAD_CONFIG = 7,
	TRY_LATER = 11,
	NOT_AVAILABLE = 50,
	INTERNAL = 999,
};

static char config[CONFIG_MAX_BYTES + 1];
static char line[LINE_MAX_BYTES];
static size_t line_length;
static bool line_full;
static char reply[REPLY_MAX_BYTES + 1];
static char version[TEXT_MAX_BYTES] = LATEST;

// ---- The line

static void add_bytes(const char *bytes, size_t length)
{
	if (length > sizeof(line) - line_length) {
		line_full = true;
		return;
	}
	memcpy(line + line_length, bytes, length);
	line_length += length;
}

static void add(const char *text)
{
	add_bytes(text, strlen(text));
}

// As a JSON string. What is no UTF-8 stays as it is: the agent's decoder replaces it.
static void add_text(const char *text, size_t length)
{
	char escape[8];

	add("\"");
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte < 0x20 || byte == '"' || byte == '\\') {
			snprintf(escape, sizeof(escape), "\\u%04x", byte);
			add(escape);
		} else {
			add_bytes(text + i, 1);
		}
	}
	add("\"");
}

static void add_field(const char *name, const char *variable)
{
	const char *value = getenv(variable);

	add(",\"");
	add(name);
	add("\":");
	add_text(value ? value : "", value ? strlen(value) : 0);
}

static void make_line(const char *command, size_t config_length)
{
	add("{\"id\":1,\"method\":\"cni\",\"command\":");
	add_text(command, strlen(command));
	add_field("containerId", "CNI_CONTAINERID");
	add_field("netns", "CNI_NETNS");
	add_field("ifname", "CNI_IFNAME");
	add_field("args", "CNI_ARGS");
	add(",\"config\":");
	add_text(config, config_length);
	add("}\n");
}

// ---- What is printed

// `details` is JSON already; null for none.
static int fail(enum cni_code code, const char *message, const char *details)
{
	line_length = 0;
	line_full = false;
	add("{\"cniVersion\":");
	add_text(version, strlen(version));
	add(",\"code\":");
	line_length += (size_t)snprintf(line + line_length, 16, "%d", code);
	add(",\"msg\":");
	add_text(message, strlen(message));
	if (details) {
		add(",\"details\":");
		add(details);
	}
	add("}\n");
	fwrite(line, 1, line_length, stdout);
	return 1;
}

static int print_versions(void)
{
	printf("{\"cniVersion\":\"%s\",\"supportedVersions\":" SUPPORTED "}\n", version);
	return 0;
}

// ---- The agent

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static bool wait_for(int fd, short events, long long deadline)
{
	struct pollfd waiting = {.fd = fd, .events = events};
	int ready;

	do {
		long long left = deadline - now_ms();

		ready = left > 0 ? poll(&waiting, 1, (int)left) : 0;
	} while (ready < 0 && errno == EINTR);
	return ready > 0;
}

static bool send_line(int fd, long long deadline)
{
	size_t sent = 0;

	while (sent < line_length) {
		ssize_t bytes = send(fd, line + sent, line_length - sent, MSG_NOSIGNAL);

		if (bytes >= 0)
			sent += (size_t)bytes;
		else if (errno != EAGAIN && errno != EINTR)
			return false;
		else if (!wait_for(fd, POLLOUT, deadline))
			return false;
	}
	return true;
}

// Without its end of line, and ended by a zero.
static bool receive_reply(int fd, long long deadline)
{
	size_t length = 0;

	while (wait_for(fd, POLLIN, deadline) && length < REPLY_MAX_BYTES) {
		ssize_t bytes = recv(fd, reply + length, REPLY_MAX_BYTES - length, 0);
		char *end;

		if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (bytes <= 0)
			return false;
		end = memchr(reply + length, '\n', (size_t)bytes);
		length += (size_t)bytes;
		if (end) {
			*end = 0;
			return true;
		}
	}
	return false;
}

// False where nobody answered: not there, ended, or slower than the limit.
static bool ask(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	long long deadline = now_ms() + REPLY_LIMIT_MS;
	bool answered;
	int fd;

	if (strlen(path) >= sizeof(name.sun_path))
		return false;
	strcpy(name.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	answered = connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0 && send_line(fd, deadline) &&
		   receive_reply(fd, deadline);
	close(fd);
	return answered;
}

// The value behind `head` in a reply that ends with `tail`; null where the reply is another one.
static char *inside(const char *head, const char *tail)
{
	size_t length = strlen(reply);

	if (length < strlen(head) + strlen(tail) || strncmp(reply, head, strlen(head)) != 0)
		return NULL;
	if (strcmp(reply + length - strlen(tail), tail) != 0)
		return NULL;
	reply[length - strlen(tail)] = 0;
	return reply + strlen(head);
}

// The agent writes these fields in this order, and nothing between them (src/agent/protocol.ts, CniReply).
static int print_reply(void)
{
	char *output = inside("{\"kind\":\"answer\",\"id\":1,\"result\":{\"exit\":0,\"output\":", "}}");
	char *message;

	if (output) {
		if (strcmp(output, "null") != 0)
			printf("%s\n", output);
		return 0;
	}
	output = inside("{\"kind\":\"answer\",\"id\":1,\"result\":{\"exit\":1,\"output\":", "}}");
	if (output) {
		printf("%s\n", output);
		return 1;
	}
	message = inside("{\"kind\":\"refusal\",\"id\":1,\"message\":", "}");
	if (message)
		return fail(INTERNAL, "the agent refused the call", message);
	return fail(INTERNAL, "the agent's reply is not understood", NULL);
}

// ---- The agent is away

// A pod must be able to end without the agent: the call is kept, and worked off when the agent is back.
static int spool_call(const char *path)
{
	const char *id = getenv("CNI_CONTAINERID"), *ifname = getenv("CNI_IFNAME");
	char name[256], why[TEXT_MAX_BYTES + 128];
	int folder;
	bool kept;

	if (!id || !is_name(id, 200) || !ifname || !is_name(ifname, 15))
		return fail(BAD_ENVIRONMENT, "CNI_CONTAINERID or CNI_IFNAME is missing, or is no name", NULL);
	snprintf(name, sizeof(name), "%s@%s.json", id, ifname);
	folder = open_spool(path);
	kept = folder >= 0 && put_in(folder, name, line, line_length);
	snprintf(why, sizeof(why), "the agent is away, and the call can't be kept in %s: %s", path,
		 strerror(errno));
	if (folder >= 0)
		close(folder);
	return kept ? 0 : fail(TRY_LATER, why, NULL);
}

static int without_agent(const char *command, const char *spool)
{
	if (strcmp(command, "DEL") == 0)
		return spool_call(spool);
	if (strcmp(command, "STATUS") == 0)
		return fail(NOT_AVAILABLE, "the agent of this node does not answer", NULL);
	return fail(TRY_LATER, "the agent of this node does not answer; try again", NULL);
}

// ---- The call

// Returns how long it is; -1 where it can't be read, or is too long.
static long read_config(void)
{
	size_t length = 0;

	while (length <= CONFIG_MAX_BYTES) {
		ssize_t bytes = read(STDIN_FILENO, config + length, CONFIG_MAX_BYTES + 1 - length);

		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes < 0)
			return -1;
		if (bytes == 0)
			return (long)length;
		length += (size_t)bytes;
	}
	return -1;
}

static bool is_known(const char *command)
{
	static const char *const known[] = {"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(command, known[i]) == 0)
			return true;
	return false;
}

// Only digits and dots: it is printed as it is.
static void take_version(long length)
{
	char asked[TEXT_MAX_BYTES];

	if (find_text(config, (size_t)length, "cniVersion", asked, sizeof(asked)) != FOUND)
		return;
	if (*asked && strlen(asked) < 16 && strspn(asked, "0123456789.") == strlen(asked))
		strcpy(version, asked);
}

static int run(void)
{
	const char *command = getenv("CNI_COMMAND");
	char path[TEXT_MAX_BYTES], spool[TEXT_MAX_BYTES];
	long length;

	length = read_config();
	if (length < 0)
		return fail(IO_FAILURE, "the network configuration can't be read from stdin, or is too long",
			    NULL);
	take_version(length);
	if (!command)
		return fail(BAD_ENVIRONMENT, "CNI_COMMAND is not set", NULL);
	if (!is_known(command))
		return fail(BAD_ENVIRONMENT, "CNI_COMMAND is none of ADD, DEL, CHECK, GC, STATUS and VERSION",
			    NULL);
	if (strcmp(command, "VERSION") == 0)
		return print_versions();
	switch (find_text(config, (size_t)length, "socket", path, sizeof(path))) {
	case BROKEN:
		return fail(BAD_JSON, "the network configuration is not a JSON object", NULL);
	case ABSENT:
		return fail(BAD_CONFIG, "the network configuration has no 'socket', or none that can be one",
			    NULL);
	case FOUND:
		break;
	}
	if (find_text(config, (size_t)length, "spool", spool, sizeof(spool)) != FOUND)
		return fail(BAD_CONFIG, "the network configuration has no 'spool', or none that can be one",
			    NULL);
	make_line(command, (size_t)length);
	if (line_full)
		return fail(BAD_CONFIG, "the call is too long", NULL);
	return ask(path) ? print_reply() : without_agent(command, spool);
}

int main(void)
{
	int code = run();

	// A result that nobody could read is none.
	return fflush(stdout) == 0 ? code : 1;
}
