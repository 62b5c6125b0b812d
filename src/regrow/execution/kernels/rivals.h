/* The entries of a dense weight gradient that might grow: it is formed a few rows at a time and never written out. */
#ifndef REGROW_RIVALS_H
#define REGROW_RIVALS_H

#include <stdint.h>

/* A gradient [rows][width]; the first member of what says where its factors are. */
typedef struct dense {
    int64_t rows, width, pitch, step;    /* elements from row to row where rows are formed; rows best formed together */
    void (*ready)(const struct dense *d);    /* run by all threads, before any of them forms a row */
    void (*form)(const struct dense *d, int64_t first, int64_t count, float *to);    /* to [count][pitch] */
} dense;

/* Its entries that are not active and whose size (0 for a NaN) is above the bound: `at`, of the type of `active`, and
   `size` begin with them if they fit the room. Returns how many they are; more than the room: how much they take;
   -1: there is no memory. */
int64_t regrow_seek(const dense *d, const void *active, int64_t count, int wide, float bound, void *at, float *size,
                    int64_t room, int threads);

#endif
