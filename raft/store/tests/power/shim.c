/* Preloaded into a process, keeps beside its directory FROM what a power cut would leave of it: in
 * TO each file is what it was when it was last synced. Renames, links and removals count at once, as on a
 * journalling file system; a file that was never synced is not there.
 *
 * The process is killed at any moment: a file in TO is replaced as a whole, or the cut would take from
 * it what was synced long before. It knows nothing of what the files mean. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where `path` lies in TO; 0 if it is not below FROM. */
static int shadow(const char *path, char out[PATH_MAX])
{
	const char *from = getenv("MUSTER_POWER_FROM"), *to = getenv("MUSTER_POWER_TO");
	size_t length = from ? strlen(from) : 0;
	if (!from || !to || strncmp(path, from, length) || path[length] != '/')
		return 0;
	return snprintf(out, PATH_MAX, "%s%s", to, path + length) < PATH_MAX;
}

static void make_parents(char *path)
{
	for (char *at = path + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		mkdir(path, 0700);
		*at = '/';
	}
}

static int copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t sent = in < 0 || out < 0 ? -1 : 1;
	while (sent > 0)
		sent = sendfile(out, in, NULL, 1 << 20);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return sent;
}

static int real_rename(const char *old, const char *new)
{
	static int (*real)(const char *, const char *);
	if (!real)
		real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
	return real(old, new);
}

static void keep(int fd)
{
	/* One at a time: of two threads that synced a file, the one that copies last has the newer. */
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
	char link[64], path[PATH_MAX], out[PATH_MAX], new[PATH_MAX];
	struct stat about;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (length < 0 || fstat(fd, &about) || !S_ISREG(about.st_mode))
		return;
	path[length] = 0;
	if (!shadow(path, out))
		return;
	/* Beside TO, where a copy that was cut short is not taken for a file of the process. */
	if (snprintf(new, sizeof new, "%s.new", getenv("MUSTER_POWER_TO")) >= PATH_MAX)
		return;
	pthread_mutex_lock(&turn);
	make_parents(out);
	if (copy(path, new) == 0)
		real_rename(new, out);
	pthread_mutex_unlock(&turn);
}

int fdatasync(int fd)
{
	static int (*real)(int);
	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	int result = real(fd);
	if (!result)
		keep(fd);
	return result;
}

int fsync(int fd)
{
	static int (*real)(int);
	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	int result = real(fd);
	if (!result)
		keep(fd);
	return result;
}

int rename(const char *old, const char *new)
{
	char a[PATH_MAX], b[PATH_MAX];
	int result = real_rename(old, new);
	if (!result && shadow(old, a) && shadow(new, b))
		real_rename(a, b);
	return result;
}

int link(const char *old, const char *new)
{
	static int (*real)(const char *, const char *);
	char a[PATH_MAX], b[PATH_MAX];
	if (!real)
		real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "link");
	int result = real(old, new);
	if (!result && shadow(old, a) && shadow(new, b)) {
		make_parents(b);
		real(a, b);
	}
	return result;
}

int unlink(const char *path)
{
	static int (*real)(const char *);
	char out[PATH_MAX];
	if (!real)
		real = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
	int result = real(path);
	if (!result && shadow(path, out))
		real(out);
	return result;
}
