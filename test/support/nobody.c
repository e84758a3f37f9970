// What a user without rights tries against a live agent; each attempt is a line: its name, and what came of it.
// Arguments: the agent's process, a pinned map, a folder of its own, then files of the agent (sockets among them).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static void say(const char *what, long result)
{
	printf("%s %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
}

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void ask_bpf(const char *pin)
{
	union bpf_attr attr = {.pathname = (unsigned long)pin};
	unsigned id;

	say("open-pin", bpf(BPF_OBJ_GET, &attr));
	memset(&attr, 0, sizeof(attr));
	say("next-map", bpf(BPF_MAP_GET_NEXT_ID, &attr));
	id = attr.next_id ? attr.next_id : 1;
	memset(&attr, 0, sizeof(attr));
	attr.map_id = id;
	say("map-by-id", bpf(BPF_MAP_GET_FD_BY_ID, &attr));
	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_HASH;
	attr.key_size = attr.value_size = attr.max_entries = 4;
	say("make-map", bpf(BPF_MAP_CREATE, &attr));
}

static void touch_process(int pid)
{
	char path[64], byte;
	struct iovec local = {&byte, 1}, remote = {(void *)0x400000, 1};

	say("signal", kill(pid, 0));
	say("ptrace", ptrace(PTRACE_SEIZE, pid, 0, 0));
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	say("memory", open(path, O_RDWR));
	snprintf(path, sizeof(path), "/proc/%d/fd/1", pid);
	say("descriptor", open(path, O_RDWR));
	say("read-memory", process_vm_readv(pid, &local, 1, &remote, 1, 0) >= 0 || errno == EFAULT ? 0 : -1);
}

static void touch_file(const char *file, const char *own)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[4096];

	strncpy(address.sun_path, file, sizeof(address.sun_path) - 1);
	say("connect", connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, sizeof(address)));
	say("open", open(file, O_RDONLY | O_NONBLOCK) >= 0 || errno == ENXIO ? 0 : -1);
	snprintf(path, sizeof(path), "%s/linked", own);
	say("link", link(file, path));
	unlink(path);
	snprintf(path, sizeof(path), "%s.theirs", file);
	say("create", open(path, O_CREAT | O_WRONLY, 0600));
	unlink(path);
	say("symlink", symlink("/etc/passwd", path));
	unlink(path);
	say("rename", rename(file, path));
	rename(path, file);
	say("chmod", chmod(file, 0777));
}

int main(int count, char **args)
{
	ask_bpf(args[2]);
	touch_process(atoi(args[1]));
	for (int i = 4; i < count; i++)
		touch_file(args[i], args[3]);
	return 0;
}
