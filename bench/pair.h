// A client and a server in two network namespaces, and their sockets. Part of bench/traffic.c.
#pragma once
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
#include <unistd.h>

struct pair {
	const char *name;
	int client_ns, server_ns;
	struct sockaddr_storage server;
	struct sockaddr_storage meant; /* whom the client asks: the server, or a Service in front of it */
	socklen_t length;
	int has_service;
	int listener, client, peer;
	uint64_t amount, ns; /* of this slot */
	uint64_t taken;      /* of this slot, in ns, with what does not count */
	uint32_t *samples;   /* of all slots, in ns; this slot's begin at `first` */
	size_t count, first, room;
};

static void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
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

/* Gives the length of the address; an address of neither family ends the program. */
static socklen_t parse_address(struct sockaddr_storage *address, const char *text, int port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		return sizeof(*v6);
	}
	errno = EINVAL;
	die(text);
	return 0;
}

/* name,client-netns,server-netns,server-address; for a Service also ,server-port,its-address,its-port */
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
	char *port = strsep(&text, ","), *address = strsep(&text, ",");
	pair->length = parse_address(&pair->server, field[3], port ? atoi(port) : 0);
	pair->has_service = address && text;
	if (pair->has_service)
		parse_address(&pair->meant, address, atoi(text));
	pair->listener = pair->client = pair->peer = -1;
}

static void listen_on(struct pair *pair, int type)
{
	pair->listener = socket_in(pair->server_ns, pair->server.ss_family, type);
	if (bind(pair->listener, (struct sockaddr *)&pair->server, pair->length))
		die("bind");
	if (getsockname(pair->listener, (struct sockaddr *)&pair->server, &pair->length))
		die("getsockname");
	if (!pair->has_service)
		pair->meant = pair->server;
	if (type == SOCK_STREAM && listen(pair->listener, 1024))
		die("listen");
}

/* Waiting for what never comes is a failure, not a slow slot. */
static void be_impatient(int fd)
{
	struct timeval patience = {.tv_sec = 2};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static void dial(struct pair *pair)
{
	int one = 1;
	pair->client = socket_in(pair->client_ns, pair->server.ss_family, SOCK_STREAM);
	be_impatient(pair->client);
	if (connect(pair->client, (struct sockaddr *)&pair->meant, pair->length))
		die(pair->name);
	pair->peer = accept(pair->listener, NULL, NULL);
	if (pair->peer < 0)
		die("accept");
	be_impatient(pair->peer);
	setsockopt(pair->client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(pair->peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void hang_up(struct pair *pair)
{
	struct linger reset = {.l_onoff = 1};
	setsockopt(pair->client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(pair->client);
	close(pair->peer);
}

/* Engines that follow connections take a flow of datagrams for one only once an answer has come. */
static void answer_once(struct pair *pair)
{
	char byte = 'm';
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);
	if (send(pair->client, &byte, 1, 0) != 1)
		die(pair->name);
	if (recvfrom(pair->listener, &byte, 1, 0, (struct sockaddr *)&from, &length) != 1)
		die(pair->name);
	if (sendto(pair->listener, &byte, 1, 0, (struct sockaddr *)&from, length) != 1)
		die(pair->name);
	if (recv(pair->client, &byte, 1, 0) != 1)
		die(pair->name);
}
