/* The n highest of many floats: no sort. As Floyd and Rivest (1975) do, a sample tells two bounds between which the n-th
   must lie, and only what lies there is looked at again; where it does not, the digits of all are counted. */
#include <math.h>
#include <string.h>

#include "share.h"
#include "sieve.h"

#define DIGITS 8192
#define FIRST 19    /* bits below the first digit, which holds sign, exponent and 4 bits of the mantissa */

/* The key of |x|, where a NaN is 0. */
INLINE int32_t key_of_size(float x) {
    const int32_t size = bits_of(x) & INT32_MAX;
    return size > INFINITE ? 0 : size;
}

/* The digit in which the n-th highest lies, from how often each occurs; n becomes its rank there. */
static int32_t highest(const int64_t *counts, int32_t digits, int64_t *n) {
    for (; counts[digits - 1] < *n; digits--) *n -= counts[digits - 1];
    return digits - 1;
}

#define DIGIT 11    /* bits of a digit, from the highest on */

/* The key of the n-th highest. */
static int32_t by_digits(const float *score, int64_t total, int64_t n) {
    uint64_t known = 0;
    for (int left = 32; left > 0;) {
        const int bits = left > DIGIT ? DIGIT : left, low = left - bits;
        int64_t counts[1 << DIGIT] = {0};
        for (int64_t k = 0; k < total; k++) {
            const uint64_t digits = (uint32_t)key(score[k]) ^ 0x80000000u;
            if (digits >> left == known >> left) counts[digits >> low & ((1 << bits) - 1)]++;
        }
        known |= (uint64_t)highest(counts, 1 << bits, &n) << low;
        left = low;
    }
    return (int32_t)((uint32_t)known ^ 0x80000000u);
}

#define FEW 2048      /* scores of which the digits are counted at once */
#define SHARE 16      /* one in so many is looked at for a guess, */
#define MOST 16384    /* and no more than these */

typedef struct {
    int32_t low, high;
} band;

/* Of a list of floats. */
typedef struct {
    float *at;
    int64_t size;
} list;

INLINE list rest(list l, int64_t taken) { return (list){l.at + taken, l.size - taken}; }

static int32_t nth(const float *score, int64_t total, int64_t n, list room);

/* Keys between which that of the n-th highest lies, nearly always. */
static band guess(const float *score, int64_t total, int64_t n, list room) {
    const int64_t apart = total / MOST > SHARE ? total / MOST : SHARE, seen = total / apart;
    const double share = (double)n / total, margin = 3 * sqrt(share * (1 - share) * seen) + 2;
    const int64_t least = share * seen - margin, most = share * seen + margin;
    if (seen > room.size) return (band){INT32_MIN, INT32_MAX};
    for (int64_t k = 0; k < seen; k++) room.at[k] = score[k * apart];
    return (band){most < seen ? nth(room.at, seen, most + 1, rest(room, seen)) : INT32_MIN,
                  least > 0 ? nth(room.at, seen, least, rest(room, seen)) : INT32_MAX};
}

/* The key of the n-th highest. */
static int32_t nth(const float *score, int64_t total, int64_t n, list room) {
    if (total < FEW) return by_digits(score, total, n);
    const band b = guess(score, total, n, room);
    int64_t above;
    const int64_t near = regrow_sieve()->between(score, total, b.low, b.high, room.at, room.size, &above);
    if (near > room.size || above >= n || above + near < n) return by_digits(score, total, n);
    return nth(room.at, near, n - above, rest(room, near));
}

/* flags [total]: is a score one of the n highest? Of equal ones the first are. 0 < n < total. */
EXPORT void regrow_select(const float *score, int64_t total, int64_t n, uint8_t *flags, int threads) {
    const list room = {(float *)flags, total / sizeof *score};    /* until they are written, there is room in the flags */
    const band b = total < FEW ? (band){0} : guess(score, total, n, room);
    int64_t near = 0, higher = 0, chosen = 0;
    int32_t worst = 0;
#pragma omp parallel num_threads(total < ENOUGH ? 1 : threads)
    {
        const int64_t first = part(total, 0), end = part(total, 1), begin = part(room.size, 0);
        int64_t above = 0, mine = 0;
        if (total >= FEW)
            mine = regrow_sieve()->between(score + first, end - first, b.low, b.high, room.at + begin,
                                           part(room.size, 1) - begin, &above);
        IN_TURN {
            if (begin + mine > part(room.size, 1)) near = total;
            if (near < begin + 1) memmove(room.at + near, room.at + begin, mine * sizeof *room.at);
            near += mine;
            higher += above;
        }
#pragma omp single
        worst = higher < n && n <= higher + near && near <= room.size ? nth(room.at, near, n - higher, rest(room, near))
                                                                      : by_digits(score, total, n);
        mine = regrow_sieve()->flag(score + first, end - first, worst, flags + first);
#pragma omp atomic
        chosen += mine;
    }
    for (int64_t k = total - 1; chosen > n; k--)
        if (key(score[k]) == worst) {
            flags[k] = 0;
            chosen--;
        }
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
