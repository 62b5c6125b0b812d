/* Maxima over windows of images in lanes: x [channels][height][width][n], y [channels][out height][out width][n]. */
#ifndef REGROW_POOL_H
#define REGROW_POOL_H

#include "conv.h"

/* The kernels of one instruction set, for images of one type (float, or bfloat16). Run by one thread, on channels
   first .. last. Windows are of at most 255 pixels, not dilated; one of theirs at least is within the image. */
typedef struct {
    /* y, and unless it is null `which` as y: the pixel of its window that y is. The first maximum, or the last NaN. */
    void (*max)(const shape *p, int64_t first, int64_t last, const void *x, void *y, uint8_t *which);
    /* dx from g, the gradient of y: what several windows give a pixel is added up in their order. */
    void (*max_gradient)(const shape *p, int64_t first, int64_t last, const void *g, const uint8_t *which, void *dx);
} pool;

extern const pool regrow_pool_portable, regrow_pool_avx2, regrow_pool_avx512;
extern const pool regrow_pool_portable_half, regrow_pool_avx2_half, regrow_pool_avx512_half;

#endif
