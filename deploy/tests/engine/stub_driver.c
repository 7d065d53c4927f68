/* A replacement for libcuda.so.1: a driver of CUDA 13, or of STUB_DRIVER_VERSION, that finds no device. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NO_DEVICE = 100, NOT_FOUND = 500 };

int cuInit(unsigned flags) {
    (void)flags;
    return NO_DEVICE;
}

int cuDriverGetVersion(int *version) {
    const char *wanted = getenv("STUB_DRIVER_VERSION");
    *version = wanted ? atoi(wanted) : 13000;
    return SUCCESS;
}

static int not_found(void) { return NOT_FOUND; }

/* CUDA's runtime asks here for every function, this one included. */
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    (void)version;
    (void)flags;
    if (strcmp(name, "cuInit") == 0) {
        *function = (void *)cuInit;
    } else if (strcmp(name, "cuDriverGetVersion") == 0) {
        *function = (void *)cuDriverGetVersion;
    } else if (strcmp(name, "cuGetProcAddress") == 0) {
        *function = (void *)cuGetProcAddress_v2;
    } else {
        *function = (void *)not_found;
    }
    if (found) {
        *found = 0;
    }
    return SUCCESS;
}
