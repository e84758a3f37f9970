// SPDX-License-Identifier: Apache-2.0
/* Preloaded into an agent by tests: a bpf(2) call that fails (MOAT_TEST_BPF=NUMBER:ERRNO, counted from 1), and a clock
 * of the day that jumps by years, there and back (MOAT_TEST_CLOCK=1). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define YEAR 31557600

static atomic_long calls;

long syscall(long number, ...)
{
	static long (*next)(long, ...);
	const char *fault = getenv("MOAT_TEST_BPF");
	long arguments[6], at, error;
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	if (number == SYS_bpf && fault && sscanf(fault, "%ld:%ld", &at, &error) == 2 &&
	    atomic_fetch_add(&calls, 1) + 1 == at) {
		errno = error;
		return -1;
	}
	return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

/* Another jump at every tenth of a second. */
static time_t jumped(time_t now)
{
	struct timespec steady;

	if (!getenv("MOAT_TEST_CLOCK"))
		return now;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &steady);
	return now + ((steady.tv_nsec / 100000000) & 1 ? 10 : -10) * (time_t)YEAR;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = syscall(SYS_clock_gettime, clock, time);

	if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		time->tv_sec = jumped(time->tv_sec);
	return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;
	int result = clock_gettime(CLOCK_REALTIME, &now);

	(void)zone;
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return result;
}
