/* The state of a search as a block of bytes, and as it is worked on.
 *
 * A block holds no pointers: a header, B beams, N nodes. Nodes hold the tokens of alignments and link to the node
 * before; beams link to nodes. Blocks come back from Python, so every index in them is checked before it is used.
 */
#ifndef KD_STATE_H
#define KD_STATE_H

#include "fusion.h"

enum { ROOT = -1, OPEN = -2 };
enum { MEMO = 512 };

static const uint64_t MAGIC = UINT64_C(0x31304D414542444B); /* "KDBEAM01" */

typedef struct {
    uint64_t magic;
    int64_t size;    /* of the whole block */
    int64_t settled; /* tokens of history: all beams begin with them, and no node holds them */
    int32_t beams, nodes;
    int32_t quiet; /* whether the last frame was nearly certain to be blank */
    int32_t classes, words, order, trie_nodes, hot_states;
    int32_t reserved[2]; /* to a multiple of 16 bytes, as work space is divided */
} Header;

/* One token of an alignment, held in frames begin..end-1. */
typedef struct {
    int32_t before, token;
    int64_t begin, end;
    double peak;  /* largest log-probability of the token in these frames */
    uint64_t key; /* hash of the prefix that ends with it */
} Node;

/* One prefix. `_b` is about alignments that end in blank, `_t` about those that end in the last token. */
typedef struct {
    double total, sum_b, sum_t; /* log-sums over alignments; total is of both */
    double best_b, best_t;      /* the best single alignment of each kind */
    double lm, ahead, hot;
    uint64_t key, parent; /* hashes of the prefix, and of it without its last token */
    int32_t last, node, hot_state, context_length;
    int32_t before_b, before_t; /* nodes of the best alignments, the last token left out */
    int32_t closed_b;           /* node of the best alignment with the last token, or OPEN: not made yet */
    int32_t reserved;
    int64_t begin_b, end_b, begin_t; /* frames of the last token */
    double peak_b, peak_t;
    int32_t context[]; /* words, newest first; room for order - 1, padded to whole doubles */
} Beam;

/* What `kd_advance` did. Mirrored in library.py. */
typedef struct {
    int64_t frames;                                   /* read */
    int64_t size;                                     /* of the block at the start of the work space */
    int64_t settled, settled_at;                      /* nodes that became history, and where they stand */
    int64_t beams_wanted, nodes_wanted, ranks_wanted; /* after KD_GROW */
} Report;

/* A hypothesis without its tokens. Mirrored in library.py, as Node is. */
typedef struct {
    double score, log_prob, lm, hot;
    int64_t tokens;
    int32_t beam, whole; /* whole: its last word is one of the lexicon */
} Found;

/* The work space, divided. */
typedef struct {
    const KdTables *tables;
    int64_t stride;
    int64_t max_beams, max_nodes, max_ranks;
    char *start;
    char *now, *next; /* beams */
    Node *nodes, *settled;
    double *ranks, *chosen; /* a rank for every beam and every extension; room to find the best of them */
    uint8_t *taken;         /* extensions that spell a beam there is */
    double *row;            /* one frame, blank penalised */
    double raw_blank;       /* its blank before that */
    int32_t *tokens;        /* labels that may extend */
    int32_t *column;        /* where a label is in `tokens`, or -1; all -1 between frames */
    int32_t *closed_t;      /* node of the best alignment that ends in the last token, or OPEN */
    int32_t *born;          /* beam, column and node before of each extension that survives */
    int32_t *slots;         /* hash table of prefixes: beam + 1 */
    int64_t slot_mask;
    int32_t *moved, *depth, *first; /* of nodes, for `settle` */
    uint64_t *memo_key;             /* prefixes whose bonus is remembered */
    double *memo;
    int32_t *context; /* one more context */
    int64_t beams, node_count, settled_before, frame;
    int32_t quiet, failed;
} Search;

static int64_t stride_of(const KdTables *t)
{
    int64_t words = t->order > 1 ? t->order - 1 : 0;
    return (int64_t)sizeof(Beam) + (words + 1) / 2 * 8;
}

static Beam *beam_at(char *beams, int64_t stride, int64_t i) { return (Beam *)(void *)(beams + i * stride); }

static double log_add(double one, double two)
{
    double high = one > two ? one : two, gap = one > two ? two - one : one - two;
    if (!(gap > -38.0)) /* too little to change the sum; minus infinity */
        return high;
    return high + log1p(exp(gap));
}

static double bonus_of(const Beam *beam) { return beam->lm + beam->ahead + beam->hot; }

static void *carve(char *start, int64_t *used, int64_t bytes)
{
    char *here = start ? start + *used : 0;
    *used += (bytes + 15) / 16 * 16;
    return here;
}

/* Divide the work space that begins at `start`, and return its size; only that where there is none yet. */
static int64_t divide(Search *s, const KdTables *t, char *start)
{
    int64_t used = 0;
    s->tables = t;
    s->stride = stride_of(t);
    s->start = start;
    carve(start, &used, (int64_t)sizeof(Header));
    s->now = carve(start, &used, s->max_beams * s->stride);
    s->next = carve(start, &used, s->max_beams * s->stride);
    s->nodes = carve(start, &used, s->max_nodes * (int64_t)sizeof(Node));
    s->settled = carve(start, &used, s->max_nodes * (int64_t)sizeof(Node));
    s->ranks = carve(start, &used, s->max_ranks * 8);
    s->chosen = carve(start, &used, s->max_ranks * 8);
    s->taken = carve(start, &used, s->max_ranks);
    s->row = carve(start, &used, (int64_t)t->classes * 8);
    s->tokens = carve(start, &used, (int64_t)t->classes * 4);
    s->column = carve(start, &used, (int64_t)t->classes * 4);
    s->closed_t = carve(start, &used, s->max_beams * 4);
    s->born = carve(start, &used, s->max_beams * 12);
    for (s->slot_mask = 1; s->slot_mask < 2 * s->max_beams;)
        s->slot_mask *= 2;
    s->slots = carve(start, &used, s->slot_mask * 4);
    s->slot_mask -= 1;
    s->moved = carve(start, &used, s->max_nodes * 4);
    s->depth = carve(start, &used, s->max_nodes * 4);
    s->first = carve(start, &used, s->max_nodes * 4);
    s->memo_key = carve(start, &used, MEMO * 8);
    s->memo = carve(start, &used, MEMO * 8);
    s->context = carve(start, &used, KD_MAX_ORDER * 4);
    return used;
}

static int within(int64_t value, int64_t low, int64_t high) { return low <= value && value < high; }

static int sound_beam(const KdTables *t, const Beam *b, int64_t nodes)
{
    int ok = b->total < INFINITY && b->sum_b < INFINITY && b->sum_t < INFINITY; /* not NaN, either */
    ok &= b->best_b < INFINITY && b->best_t < INFINITY;
    ok &= isfinite(b->lm) && isfinite(b->ahead) && isfinite(b->hot);
    ok &= within(b->last, ROOT, t->classes) && within(b->node, -1, t->trie_nodes > 0 ? t->trie_nodes : 1);
    ok &= within(b->hot_state, 0, t->hot_states > 0 ? t->hot_states : 1);
    ok &= within(b->before_b, ROOT, nodes) && within(b->before_t, ROOT, nodes) && within(b->closed_b, OPEN, nodes);
    ok &= b->last != ROOT || (b->closed_b == ROOT && b->best_t == -INFINITY);
    ok &= within(b->context_length, 0, t->order > 1 ? t->order : 1);
    for (int32_t i = 0; ok && i < b->context_length; i++)
        ok = within(b->context[i], 0, t->words);
    return ok;
}

/* Find out whether a block is one of this decoder's, whole, with every index in range; `block` is aligned. */
static int sound(const KdTables *t, char *block, int64_t size)
{
    const Header *h = (const Header *)(const void *)block;
    int64_t stride = stride_of(t);
    if (size < (int64_t)sizeof(Header) || h->magic != MAGIC || h->size != size || h->beams < 1 || h->nodes < 0)
        return 0;
    if (h->classes != t->classes || h->words != t->words || h->order != t->order)
        return 0;
    if (!within(h->settled, 0, INT64_MAX / 2) || h->trie_nodes != t->trie_nodes || h->hot_states != t->hot_states)
        return 0;
    if (size != (int64_t)sizeof(Header) + h->beams * stride + h->nodes * (int64_t)sizeof(Node))
        return 0;
    char *beams = block + sizeof(Header);
    const Node *nodes = (const Node *)(const void *)(beams + h->beams * stride);
    for (int64_t i = 0; i < h->beams; i++)
        if (!sound_beam(t, beam_at(beams, stride, i), h->nodes))
            return 0;
    for (int64_t i = 0; i < h->nodes; i++) /* links lead back, so they end */
        if (!within(nodes[i].before, ROOT, i) || !within(nodes[i].token, 0, t->classes))
            return 0;
    return 1;
}

/* Copy a block into the work space; 0 when it is not sound. */
static int load(Search *s, const void *block, int64_t size)
{
    Header h;
    if (size < (int64_t)sizeof(Header))
        return 0;
    memcpy(&h, block, sizeof h);
    if (!within(h.beams, 1, s->max_beams + 1) || !within(h.nodes, 0, s->max_nodes + 1))
        return 0;
    if (size != (int64_t)sizeof(Header) + h.beams * s->stride + h.nodes * (int64_t)sizeof(Node))
        return 0;
    memcpy(s->start, block, (size_t)size); /* fits: header, beams and nodes stand in this order here, too */
    if (!sound(s->tables, s->start, size))
        return 0;
    s->beams = h.beams;
    s->node_count = h.nodes;
    s->quiet = h.quiet;
    s->settled_before = h.settled;
    memmove(s->nodes, s->now + h.beams * s->stride, (size_t)h.nodes * sizeof(Node));
    return 1;
}

/* Write the block to the start of the work space; returns its size. */
static int64_t store(Search *s)
{
    const KdTables *t = s->tables;
    int64_t beam_bytes = s->beams * s->stride, node_bytes = s->node_count * (int64_t)sizeof(Node);
    int64_t size = (int64_t)sizeof(Header) + beam_bytes + node_bytes;
    Header h = {MAGIC,    size,       s->settled_before, (int32_t)s->beams, (int32_t)s->node_count,
                s->quiet, t->classes, t->words,          t->order,          t->trie_nodes, t->hot_states, {0, 0}};
    memcpy(s->start, &h, sizeof h);
    memmove(s->start + sizeof h, s->now, (size_t)beam_bytes);
    memmove(s->start + sizeof h + beam_bytes, s->nodes, (size_t)node_bytes);
    return size;
}

#endif
