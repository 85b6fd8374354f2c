/* The prefix beam search of decoders/beam.py, frame by frame, with the same numbers.
 *
 * A state is a block of bytes without pointers: a header, B beams, N nodes. Nodes hold the tokens of alignments and
 * link to the node before; beams link to nodes. `kd_advance` copies a block into work space of the caller, works
 * there, and leaves the next block at the start of it. Nothing is allocated and nothing is kept: every function is
 * a function of its arguments, so any number of threads may call it.
 *
 * Blocks come back from Python, so every index in them is checked before it is used.
 */
#include "fusion.h"

#if defined(_WIN32)
#define KD_API __declspec(dllexport)
#else
#define KD_API __attribute__((visibility("default")))
#endif

enum { KD_VERSION = 1 };
enum { KD_OK = 0, KD_GROW = 1, KD_BAD_STATE = -1, KD_BAD_SCORES = -2, KD_LM_FAILED = -3, KD_BAD_SIZE = -4 };
enum { ROOT = -1, OPEN = -2 };
enum { MEMO = 512 };

static const uint64_t MAGIC = UINT64_C(0x31304D414542444B); /* "KDBEAM01", little-endian */

typedef struct {
    uint64_t magic;
    int64_t size; /* of the whole block */
    int32_t beams, nodes;
    int32_t quiet; /* whether the last frame was nearly certain to be blank */
    int32_t classes, words, trie_nodes, hot_states, order;
} Header;

/* One token of an alignment, held in frames begin..end-1. */
typedef struct {
    int32_t before, token;
    int64_t begin, end;
    double peak; /* largest log-probability of the token in these frames */
} Node;

/* One prefix. `_b` is about alignments that end in blank, `_t` about those that end in the last token. */
typedef struct {
    double total, sum_b, sum_t; /* log-sums over alignments; total is of both */
    double best_b, best_t;      /* the best single alignment */
    double rank_bonus, lm, hot;
    uint64_t key, parent; /* hashes of the prefix, and of it without its last token */
    int32_t last, node, hot_state, context_length;
    int32_t before_b, before_t; /* nodes of the best alignments, the last token left out */
    int32_t closed_b;           /* node of the best alignment with the last token, or OPEN: not made yet */
    int32_t reserved;
    int64_t begin_b, end_b, begin_t; /* frames of the last token */
    double peak_b, peak_t;
    int32_t context[]; /* words, newest first; order - 1 of them, padded to whole doubles */
} Beam;

/* What `kd_advance` reports. Mirrored in library.py. */
typedef struct {
    int64_t frames;                             /* frames that were read */
    int64_t size;                               /* of the block at the start of the work space */
    int64_t settled_at;                         /* where in the work space settled nodes stand, oldest first */
    int64_t settled;                            /* how many: taken out of the block, they are history */
    int64_t beams_wanted, nodes_wanted, ranks_wanted; /* after KD_GROW */
} Report;

/* The work space, divided. */
typedef struct {
    const KdTables *tables;
    int64_t stride;
    int64_t max_beams, max_nodes, max_ranks;
    char *now, *next; /* beams */
    Node *nodes;
    double *ranks, *chosen; /* a rank for every beam and every extension; some of them, to find the best */
    uint8_t *taken;         /* extensions that spell a beam there is */
    double *row;            /* one frame, blank penalised */
    int32_t *tokens;        /* labels that may extend */
    int32_t *column;        /* where a label is in `tokens`, or -1; all -1 between frames */
    int32_t *closed_t;      /* node of the best alignment in the last token, with it, or OPEN */
    int32_t *born;          /* row, column and node before, of each extension that survives */
    int32_t *slots;         /* hash table of prefixes: row + 1 */
    int64_t slot_mask;
    int32_t *moved; /* where nodes go */
    uint64_t *memo_key;
    double *memo_bonus;
    int64_t beams, node_count;
    int32_t quiet, failed;
} Search;

static Beam *beam_at(char *beams, const Search *s, int64_t i) { return (Beam *)(void *)(beams + i * s->stride); }

static int64_t stride_of(const KdTables *t)
{
    int64_t words = t->order > 1 ? t->order - 1 : 0;
    return (int64_t)sizeof(Beam) + (words + 1) / 2 * 8;
}

static double log_add(double one, double two)
{
    double high = one > two ? one : two, gap = one > two ? two - one : one - two;
    if (!(gap > -38.0)) /* too little to change a sum, and minus infinity */
        return high;
    return high + log1p(exp(gap));
}

static uint64_t extend_key(uint64_t parent, int32_t token) { return kd_mix(parent, (uint64_t)token + 1); }

/* ---- the work space ------------------------------------------------------------------------------------------ */

static char *carve(char **free_space, int64_t bytes)
{
    char *here = *free_space;
    *free_space += (bytes + 15) / 16 * 16;
    return here;
}

/* Divide the work space; returns its size, also without one (base 0). */
static int64_t divide(Search *s, const KdTables *t, char *base)
{
    char *end = base;
    s->tables = t;
    s->stride = stride_of(t);
    carve(&end, (int64_t)sizeof(Header));
    s->now = carve(&end, s->max_beams * s->stride);
    s->next = carve(&end, s->max_beams * s->stride);
    s->nodes = (Node *)(void *)carve(&end, s->max_nodes * (int64_t)sizeof(Node));
    s->ranks = (double *)(void *)carve(&end, s->max_ranks * 8);
    s->chosen = (double *)(void *)carve(&end, s->max_ranks * 8);
    s->taken = (uint8_t *)carve(&end, s->max_ranks);
    s->row = (double *)(void *)carve(&end, (int64_t)t->classes * 8);
    s->tokens = (int32_t *)(void *)carve(&end, (int64_t)t->classes * 4);
    s->column = (int32_t *)(void *)carve(&end, (int64_t)t->classes * 4);
    s->closed_t = (int32_t *)(void *)carve(&end, s->max_beams * 4);
    s->born = (int32_t *)(void *)carve(&end, s->max_beams * 12);
    for (s->slot_mask = 1; s->slot_mask < 2 * s->max_beams;)
        s->slot_mask *= 2;
    s->slots = (int32_t *)(void *)carve(&end, s->slot_mask * 4);
    s->slot_mask -= 1;
    s->moved = (int32_t *)(void *)carve(&end, s->max_nodes * 4);
    s->memo_key = (uint64_t *)(void *)carve(&end, MEMO * 8);
    s->memo_bonus = (double *)(void *)carve(&end, MEMO * 8);
    return end - base;
}
