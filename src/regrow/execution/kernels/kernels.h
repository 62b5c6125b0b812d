/* What the kernels share. Activations are in lanes: [features][n], for every feature the batch is contiguous. */
#ifndef REGROW_KERNELS_H
#define REGROW_KERNELS_H

#include <stdint.h>

/* How the entries of a sparse matrix are listed: see index.py. TURNED: of a matrix that is the transpose of what its
   values are sorted by; NARROW: of one of at most 2^16 rows and columns. */
enum { PLAIN, TURNED, NARROW, NARROW_TURNED };

/* A sparse matrix by rows: row o owns entries pointers[o] .. pointers[o + 1] of `columns`, ascending within the row.
   Entry k has the value values[k], or, if turned, values[order[k]], or values[starts[column] + place]. */
typedef struct {
    int64_t rows, width;
    int kind;
    const int32_t *pointers;
    const void *columns;     /* int32; narrow: uint16; narrow and turned: uint32, a column, and below it a place */
    const int32_t *order;    /* or `starts` */
    const float *values;
} matrix;

/* The column of entry k. */
static inline __attribute__((always_inline)) int32_t column_at(const int kind, const void *columns, int32_t k) {
    if (kind == NARROW) return ((const uint16_t *)columns)[k];
    if (kind == NARROW_TURNED) return ((const uint32_t *)columns)[k] >> 16;
    return ((const int32_t *)columns)[k];
}

/* Where its value is. */
static inline __attribute__((always_inline)) int32_t value_at(const int kind, const void *columns, const int32_t *order,
                                                              int32_t k) {
    if (kind == NARROW_TURNED) {
        const uint32_t both = ((const uint32_t *)columns)[k];
        return order[both >> 16] + (both & 0xffff);
    }
    return kind == TURNED ? order[k] : k;
}

/* Activations: in lanes, or, if `rows`, [n][features], which a thread lays into lanes for itself, tile by tile. */
typedef struct {
    void *at;
    int rows;
} batch;

/* Sums over the lanes of features first .. last: none if `to` is null. */
typedef struct {
    float *to;
    int64_t first, last;
} sums;

/* The kernels of one instruction set, for activations of one type (float, or bfloat16 summed in float). Each is run by
   one thread, on rows first .. last of w and n lanes, and returns nonzero when there is no memory. */
typedef struct {
    /* y[o] = bias[o] + sum_k value_k x[column_k], in lanes; no bias: 0 */
    int (*product)(const matrix *w, int64_t first, int64_t last, const float *bias, batch x, void *y, int64_t n);
    /* Of y = x w^T with w given by columns: dx[c] = sum_k value_k g[row_k], laid out as x, unless it is null, and
       dw[order_k] = <x[c], g[row_k]>. One load of g serves both. And the sums of g. */
    int (*gradients)(const matrix *w, int64_t first, int64_t last, batch g, batch x, void *dx, float *dw, sums db, int64_t n);
} kernels;

#define LINE 64    /* bytes of a cache line */

/* `bytes`, up to whole cache lines. */
static inline int64_t lines(int64_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* Memory of the calling thread, kept for its next call, as the system clears what it hands out anew; null if there is
   none. Starts with a cache line. */
void *regrow_scratch(int64_t bytes);

/* to[c * to_apart + r] = from[r * apart + c], r < rows, c < width; elements of 4 bytes, or of 2. */
void regrow_turn4(const void *from, int64_t rows, int64_t width, int64_t apart, void *to, int64_t to_apart);
void regrow_turn2(const void *from, int64_t rows, int64_t width, int64_t apart, void *to, int64_t to_apart);

extern const kernels regrow_portable, regrow_avx2, regrow_avx512;
extern const kernels regrow_portable_half, regrow_avx2_half, regrow_avx512_half, regrow_avx512bf16_half;

/* at[i] = rest wherever bit i % 32 of bits[i / 32] is not set; run by one thread. */
typedef void keep(float *at, const uint32_t *bits, int64_t n, float rest);
extern keep regrow_keep_portable, regrow_keep_avx2, regrow_keep_avx512;

#endif
