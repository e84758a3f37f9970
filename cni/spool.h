// A folder of calls that wait for an agent: one file for each, that appears whole or not at all.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// What the specification allows in a container's id, and the kernel in an interface's name; neither is a
// path.
static bool is_name(const char *text, size_t most)
{
	if (strlen(text) > most ||
	    !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *text))
		return false;
	return *text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
			    strlen(text);
}

static bool write_all(int fd, const char *bytes, size_t length)
{
	size_t written = 0;

	while (written < length) {
		ssize_t more = write(fd, bytes + written, length - written);

		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			return false;
		written += (size_t)more;
	}
	return fsync(fd) == 0;
}

// Written aside and renamed: the agent never sees half a call. A repeated DEL replaces the first.
static bool put_in(int folder, const char *name, const char *bytes, size_t length)
{
	char aside[32];
	bool whole;
	int fd;

	snprintf(aside, sizeof(aside), ".%d", getpid());
	fd = openat(folder, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	whole = write_all(fd, bytes, length);
	close(fd);
	if (whole && renameat(folder, aside, folder, name) == 0)
		return fsync(folder) == 0;
	unlinkat(folder, aside, 0);
	return false;
}

// Only a folder that nobody else can look into or change.
static int open_spool(const char *path)
{
	struct stat found;
	int fd;

	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &found) == 0 && found.st_uid == geteuid() && (found.st_mode & 077) == 0)
		return fd;
	close(fd);
	errno = EPERM;
	return -1;
}
