/* A convolution, as a pass over images in lanes: [channels][height][width][n].

   A pass sums, for every target row and channel, over the weights (entries) of that channel. Forward, the target is the
   output and the source is the input; backward, the target is the input's gradient and the source is the output's.
   Rows: entries come sorted by row tap, and a tap of a target row reads one source row, or none (padding, stride).
   Columns: the ones that lie `step` apart belong to a phase. Within a phase neighbours stay neighbours, whatever the
   stride: column i of the target reads column i + shift of a panel, which holds the source by phases, zeros around it. */
#ifndef REGROW_CONV_H
#define REGROW_CONV_H

#include "kernels.h"

#define MOST 16    /* taps, phases or stride, along an axis */

/* A convolution: sizes, as native.py gives them; (height, width) pairs. */
typedef struct {
    int64_t n, channels, in[2], out_channels, out[2], kernel[2], stride[2], padding[2], dilation[2];
} shape;

static inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* A weight: where its source lies, from the first of its panel, and its value; or, where pairs are multiplied, in
   bfloat16 beside that of the entry that follows. */
typedef struct {
    int32_t at;
    union {
        float value;
        uint16_t pair[2];
        int32_t both;
    };
} entry;

typedef struct {
    void *at;
    int64_t channels, height, width;
} image;

/* Column i of phase p is column i * step + start[p] of the image. */
typedef struct {
    int64_t phases, step, start[MOST];
} comb;

typedef struct {
    image source, target, held;    /* `held` is multiplied with the source to make dw; a target at null is not made */
    int64_t n, lanes;              /* images; how many a panel takes */
    comb from, to;                 /* columns of the source, of the target */
    int64_t taps, row[4];          /* tap k of target row y: source row (row[0] y + row[1] k + row[2]) / row[3], if whole */
    int64_t slots;                 /* source rows held at a time */
    int64_t columns, reach;        /* of the target's phases, in a strip; more that its panel has */
    int64_t pitch;                 /* elements from channel to channel (and phase) of a panel */
    int64_t blocks;                /* of source channels */
    int64_t chunks, strips, sheets; /* units of work: of rows, of columns, of lanes */
    const int32_t *begin;          /* [tap][block][phase of the target][channel of the target]: its first entry */
    const entry *entries;
    const float *bias;
    const void *add;               /* as the target, or null: added to what is handed over, */
    float least;                   /* which is then no less than this */
} pass;

/* The kernels of one instruction set, for images of one type. Run by one thread, on units first .. last, which changes
   nothing outside of them; dw [entries] is added to. */
typedef struct {
    int64_t vector, tile;    /* lanes of a register; registers in a tile */
    int pairs;               /* how it takes its entries */
    int64_t (*room)(const pass *p);    /* bytes */
    void (*product)(const pass *p, int64_t first, int64_t last, void *room);
    void (*gradients)(const pass *p, int64_t first, int64_t last, float *dw, void *room);
    /* to[c] = sum of c's lanes, for channels first .. last of g */
    void (*sums)(const image *g, int64_t n, int64_t first, int64_t last, float *to);
} convolver;

extern const convolver regrow_conv_portable, regrow_conv_avx2, regrow_conv_avx512;
extern const convolver regrow_conv_portable_half, regrow_conv_avx2_half, regrow_conv_avx512_half, regrow_conv_avx512bf16_half;

/* Of the instruction set in use. */
const convolver *regrow_convolver(int half);

#endif
