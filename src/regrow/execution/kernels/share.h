/* How the threads of a parallel region share work on lists: by ranges, so that their number changes no bit. */
#ifndef REGROW_SHARE_H
#define REGROW_SHARE_H

#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#else
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define ENOUGH 16384    /* entries below which a second thread costs more than it brings */

/* Where a step waits for the one before, a thread goes through LANES shares of its work at once, a step of each in turn. */
#define LANES 4
#define EACH_LANE for (int l = 0; l < LANES; l++)

/* Where the work on n entries begins for this thread; with `next` = 1 for the one after it: where this one's ends. */
INLINE int64_t part(int64_t n, int next) { return n * (omp_get_thread_num() + next) / omp_get_num_threads(); }

/* What follows is done by one thread after another. */
#define IN_TURN _Pragma("omp for ordered schedule(static, 1)") \
    for (int turn = 0; turn < omp_get_num_threads(); turn++) _Pragma("omp ordered")

/* Positions are int64 if `wide`, else int32. */
INLINE int64_t get(const void *set, int wide, int64_t k) {
    return wide ? ((const int64_t *)set)[k] : ((const int32_t *)set)[k];
}

INLINE void put(void *set, int wide, int64_t k, int64_t position) {
    if (wide) ((int64_t *)set)[k] = position;
    else ((int32_t *)set)[k] = position;
}

/* How many of the n positions are lower than this one. */
INLINE int64_t below(const void *set, int wide, int64_t n, int64_t position) {
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (get(set, wide, middle) < position) low = middle + 1;
        else high = middle;
    }
    return low;
}

#endif
