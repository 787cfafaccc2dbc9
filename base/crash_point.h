/* Named places at which a daemon that was built for it dies, so that tests can prove that it may.
 *
 * In an ordinary build they are nothing. With DIRECTORD_CRASH_POINTS defined, the environment's
 * DIRECTORD_CRASH_POINT=NAME[:N] chooses one, and the daemon aborts when it comes there for the
 * N-th time (N is 1 when left out). Main thread only. */
#pragma once

#ifdef DIRECTORD_CRASH_POINTS
#define CRASH_POINT(name) crash_point(name)
void crash_point(const char *name);
#else
#define CRASH_POINT(name) ((void)0)
#endif
