/* Vectors whose entries are flagged, by bytes of 0 or 1: which scores are the highest, what is kept, where it goes. */
#ifndef REGROW_SIEVE_H
#define REGROW_SIEVE_H

#include <stdint.h>
#include <string.h>

#define INFINITE 0x7f800000

static inline int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A number that orders as the score does: both zeros are one, a NaN is lower than all. */
static inline int32_t key(float score) {
    const int32_t bits = bits_of(score), size = bits & INT32_MAX, sign = bits >> 31;
    return size > INFINITE ? ~INFINITE : ((size ^ sign) - sign);
}

/* Of one instruction set; each is run by one thread. Entries are of 2, 4 or 8 bytes. */
typedef struct {
    /* to = the scores whose keys lie from low to high, while there is room; returns how many do. *above: how many lie
       higher. */
    int64_t (*between)(const float *score, int64_t n, int32_t low, int32_t high, float *to, int64_t room, int64_t *above);
    /* flags[k] = is the key of score[k] no lower than `worst`? Returns how many are. */
    int64_t (*flag)(const float *score, int64_t n, int32_t worst, uint8_t *flags);
    /* to [count] = the entries of `from` that are flagged, of which there are so many. */
    void (*only)(const void *from, const uint8_t *flags, int64_t count, int size, void *to);
    /* to [n] = the next one of `from` where flagged, else *other. May read 64 bytes past the last. */
    void (*spread)(const void *from, const uint8_t *flags, int64_t n, int size, const void *other, void *to);
} sieve;

extern const sieve regrow_sieve_portable, regrow_sieve_avx2, regrow_sieve_avx512;
const sieve *regrow_sieve(void);    /* of the instruction set that was chosen */

#endif
