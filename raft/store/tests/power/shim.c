/* Preloaded into a process, keeps beside its directory FROM what a power cut would leave of it: in
 * TO each file is what it was when it was last synced. Renames, links and removals count at once, as on a
 * journalling file system; a file that was never synced is not there.
 *
 * It knows nothing of what the files mean. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
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

static void keep(int fd)
{
	char link[64], path[PATH_MAX], out[PATH_MAX];
	struct stat about;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (length < 0 || fstat(fd, &about) || !S_ISREG(about.st_mode))
		return;
	path[length] = 0;
	if (!shadow(path, out))
		return;
	make_parents(out);
	int in = open(path, O_RDONLY), copy = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (in >= 0 && copy >= 0)
		while (sendfile(copy, in, NULL, 1 << 20) > 0)
			;
	if (in >= 0)
		close(in);
	if (copy >= 0)
		close(copy);
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
	static int (*real)(const char *, const char *);
	char a[PATH_MAX], b[PATH_MAX];
	if (!real)
		real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
	int result = real(old, new);
	if (!result && shadow(old, a) && shadow(new, b))
		real(a, b);
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
