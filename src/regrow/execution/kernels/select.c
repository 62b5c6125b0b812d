/* The n highest of many floats, by the digits of their bits: no sort. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "share.h"

#define DIGITS 8192
#define FIRST 19    /* bits below the first digit, which holds sign, exponent and 4 bits of the mantissa */
#define INFINITE 0x7f800000

INLINE int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A number that orders as the score does: both zeros are one, a NaN is -infinity. */
INLINE int32_t key(float score) {
    const int32_t bits = bits_of(score), size = bits & INT32_MAX, sign = bits >> 31;
    return size > INFINITE ? ~INFINITE : ((size ^ sign) - sign);
}

/* The same for |x|, where a NaN is 0. */
INLINE int32_t key_of_size(float x) {
    const int32_t size = bits_of(x) & INT32_MAX;
    return size > INFINITE ? 0 : size;
}

/* The same, in the order of unsigned numbers. */
INLINE uint32_t digits_of(float score) { return (uint32_t)key(score) ^ 0x80000000u; }

/* The digit in which the n-th highest lies, from how often each occurs; n becomes its rank there. */
static int32_t highest(const int64_t *counts, int32_t digits, int64_t *n) {
    for (; counts[digits - 1] < *n; digits--) *n -= counts[digits - 1];
    return digits - 1;
}

/* The n-th highest of these numbers, which share their first digit; the rest is one of 9 bits and one of 10. */
static uint32_t nth(const uint32_t *numbers, int64_t total, int64_t n) {
    int64_t counts[1024] = {0};
    for (int64_t k = 0; k < total; k++) counts[numbers[k] >> 10 & 511]++;
    const uint32_t known = numbers[0] >> FIRST << 9 | (uint32_t)highest(counts, 512, &n);
    memset(counts, 0, sizeof counts);
    for (int64_t k = 0; k < total; k++)
        if (numbers[k] >> 10 == known) counts[numbers[k] & 1023]++;
    return known << 10 | (uint32_t)highest(counts, 1024, &n);
}

/* to [n], ascending: where the n highest of `total` scores are; of equal ones the first. 0 < n < total. Returns nonzero
   when there is no memory. */
EXPORT int regrow_select(const float *score, int64_t total, int64_t n, int64_t *to, int threads) {
    int64_t counts[DIGITS] = {0}, rank = n, near = 0, written = 0, ties = 0;
    uint32_t *numbers = 0, digit = 0, lowest = 0;
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(total, 0), end = part(total, 1);
        int64_t place = 0, above = 0, mine_near = 0, stop = 0, left = 0;
        int32_t mine[DIGITS] = {0};
        for (int64_t k = first; k < end; k++) mine[digits_of(score[k]) >> FIRST]++;
        IN_TURN for (int d = 0; d < DIGITS; d++) counts[d] += mine[d];
#pragma omp single
        {
            digit = highest(counts, DIGITS, &rank);
            numbers = malloc(counts[digit] * sizeof *numbers);
        }
        IN_TURN {
            place = near;
            near += mine[digit];
        }
        const uint32_t *own = numbers + place;
        for (int64_t k = first; numbers && k < end; k++)
            if (digits_of(score[k]) >> FIRST == digit) numbers[place++] = digits_of(score[k]);
        mine_near = numbers + place - own;
#pragma omp barrier
#pragma omp single
        if (numbers) {
            lowest = nth(numbers, near, rank);
            ties = n;
            for (uint32_t d = digit + 1; d < DIGITS; d++) ties -= counts[d];
            for (int64_t k = 0; k < near; k++) ties -= numbers[k] > lowest;    /* how many equal ones are wanted */
        }
        int64_t equal = 0;
        for (uint32_t d = digit + 1; d < DIGITS; d++) above += mine[d];
        for (int64_t k = 0; numbers && k < mine_near; k++) {
            above += own[k] > lowest;
            equal += own[k] == lowest;
        }
        IN_TURN {
            left = equal < ties ? equal : ties;
            ties -= left;
            place = written;
            written += above + left;
            stop = written;
        }
        const int32_t worst = (int32_t)(lowest ^ 0x80000000u);
        for (int64_t k = first; numbers && place < stop; k++) {
            const int tie = (key(score[k]) == worst) & (left > 0);
            to[place] = k;
            place += (key(score[k]) > worst) | tie;
            left -= tie;
        }
    }
    free(numbers);
    return !numbers;
}

/* A bound that the sizes of at least n entries of `signal` exceed, and not many more; 0 < n <= total. */
EXPORT float regrow_floor(const float *signal, int64_t total, int64_t n, int threads) {
    int64_t counts[DIGITS] = {0};
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        int32_t mine[DIGITS] = {0};
        for (int64_t k = part(total, 0), end = part(total, 1); k < end; k++) mine[key_of_size(signal[k]) >> FIRST]++;
        IN_TURN for (int digit = 0; digit < DIGITS; digit++) counts[digit] += mine[digit];
    }
    const int32_t bits = highest(counts, DIGITS, &n) << FIRST;
    float bound;
    memcpy(&bound, &bits, sizeof bound);
    return nextafterf(bound, -INFINITY);
}

#define CHUNK 16

/* The inactive entries of signal [k, end) whose size is above the bound, and how many they are. */
INLINE int64_t rivals(const float *signal, int64_t k, int64_t end, const void *active, int64_t n, int wide,
                      int32_t bound, void *at, float *size) {
    int64_t low = below(active, wide, n, k), found = 0, kept = 0;
    while (k < end) {
        const int64_t stop = k + CHUNK < end ? k + CHUNK : end;
        int any = stop < k + CHUNK;
        if (!any)
            for (int i = 0; i < CHUNK; i++) any |= key_of_size(signal[k + i]) > bound;
        for (; any && k < stop; k++) {
            put(at, wide, found, k);
            found += key_of_size(signal[k]) > bound;
        }
        k = stop;
    }
    for (int64_t i = 0; i < found;) {
        const int64_t here = get(at, wide, i), other = low < n ? get(active, wide, low) : end;
        put(at, wide, kept, here);
        kept += here < other;
        i += here <= other;
        low += other < here;
    }
    for (int64_t i = 0; i < kept; i++) {
        const int32_t bits = key_of_size(signal[get(at, wide, i)]);
        memcpy(size + i, &bits, sizeof bits);
    }
    return kept;
}

/* The inactive entries of `signal` [total] whose size (0 for a NaN) is above the threshold: `at` [total], of the
   type of `active`, and `size` [total] begin with them. Returns how many they are. */
EXPORT int64_t regrow_above(const float *signal, int64_t total, const void *active, int64_t n, int wide, float threshold,
                            void *at, float *size, int threads) {
    const int32_t bound = threshold < 0 ? -1 : bits_of(threshold) & INT32_MAX;
    const int64_t each = wide ? 8 : 4;
    int64_t found = 0;
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(total, 0), end = part(total, 1);
        char *const own = (char *)at + first * each;
        const int64_t mine = wide ? rivals(signal, first, end, active, n, 1, bound, own, size + first)
                                  : rivals(signal, first, end, active, n, 0, bound, own, size + first);
        IN_TURN {
            memmove((char *)at + found * each, own, mine * each);
            memmove(size + found, size + first, mine * sizeof *size);
            found += mine;
        }
    }
    return found;
}
