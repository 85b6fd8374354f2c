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

#include <stdlib.h>

#if defined(_WIN32)
#define KD_API __declspec(dllexport)
#else
#define KD_API __attribute__((visibility("default")))
#endif

enum { KD_VERSION = 1 }; /* of the interface; library.py asks for it */
enum { KD_OK = 0, KD_GROW = 1, KD_BAD_STATE = -1, KD_BAD_SCORES = -2, KD_LM_FAILED = -3 };
enum { ROOT = -1, OPEN = -2 };
enum { MEMO = 512 };
enum { KD_RANKS_A_BEAM = 6 }; /* room for one Found */

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

/* ---- work space ---------------------------------------------------------------------------------------------- */

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

/* ---- blocks -------------------------------------------------------------------------------------------------- */

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

/* ---- history ------------------------------------------------------------------------------------------------- */

/* Give the last token of a beam a node, in the alignment that ends in blank or in the other one. */
static int32_t add_node(Search *s, const Beam *b, int blank, int64_t end)
{
    Node node = {blank ? b->before_b : b->before_t,
                 b->last,
                 blank ? b->begin_b : b->begin_t,
                 blank ? b->end_b : end,
                 blank ? b->peak_b : b->peak_t,
                 b->key};
    s->nodes[s->node_count] = node;
    return (int32_t)s->node_count++;
}

/* Node that ends the best alignment of beam `i` before this frame, its last token with it. */
static int32_t close_last(Search *s, int64_t i, int from_blank)
{
    Beam *old = beam_at(s->now, s->stride, i), *stay = beam_at(s->next, s->stride, i);
    int stays_blank = old->best_b >= old->best_t;
    if (from_blank) {
        if (old->closed_b == OPEN)
            old->closed_b = add_node(s, old, 1, 0);
        if (stays_blank)
            stay->closed_b = old->closed_b;
        return old->closed_b;
    }
    if (s->closed_t[i] == OPEN)
        s->closed_t[i] = add_node(s, old, 0, s->frame);
    if (!stays_blank)
        stay->closed_b = s->closed_t[i];
    return s->closed_t[i];
}

/* Whether there are alignments that end in blank; where there are none at all, the last of these stand for them. */
static int has_blank(const Beam *b) { return b->best_b > -INFINITY || b->best_t == -INFINITY; }

static void reach_none(Search *s) { memset(s->moved, 0, (size_t)s->node_count * sizeof(int32_t)); }

static void reach(Search *s, int32_t node)
{
    while (node >= 0 && !s->moved[node]) {
        s->moved[node] = 1;
        node = s->nodes[node].before;
    }
}

static int32_t head_b(const Beam *b) { return b->closed_b == OPEN ? b->before_b : b->closed_b; }

static int same_token(const Node *one, const Node *two, int wholly)
{
    if (one->token != two->token || one->begin != two->begin)
        return 0;
    return !wholly || (one->end == two->end && one->peak == two->peak);
}

static int32_t depth_of(const Search *s, int32_t node) { return node < 0 ? 0 : s->depth[node]; }

static void measure_depths(Search *s)
{
    for (int64_t i = 0; i < s->node_count; i++)
        s->depth[i] = 1 + depth_of(s, s->nodes[i].before);
}

/* How many leading tokens all alignments share (`wholly`: their ends, too): looks at nodes that are reached. */
static int32_t shared_depth(Search *s, int wholly)
{
    int32_t shared = INT32_MAX;
    measure_depths(s);
    for (int64_t i = 0; i < s->beams; i++) {
        const Beam *b = beam_at(s->now, s->stride, i);
        int32_t in_blank = has_blank(b) ? depth_of(s, head_b(b)) : INT32_MAX;
        int32_t in_token = b->best_t > -INFINITY ? depth_of(s, b->before_t) : INT32_MAX;
        int32_t least = in_blank < in_token ? in_blank : in_token;
        shared = least < shared ? least : shared;
    }
    if (shared == INT32_MAX)
        return 0;
    for (int32_t d = 0; d < shared; d++)
        s->first[d] = ROOT;
    for (int64_t i = 0; i < s->node_count; i++) {
        int32_t d = s->depth[i] - 1;
        if (!s->moved[i] || d >= shared)
            continue;
        if (s->first[d] == ROOT)
            s->first[d] = (int32_t)i;
        else if (!same_token(s->nodes + i, s->nodes + s->first[d], wholly))
            shared = d;
    }
    return shared;
}

/* Drop nodes that no beam reaches, and move tokens that all alignments share out to `settled`; returns how many. */
static int64_t settle(Search *s)
{
    reach_none(s);
    for (int64_t i = 0; i < s->beams; i++) {
        Beam *b = beam_at(s->now, s->stride, i);
        if (!has_blank(b)) /* hold on to nothing */
            b->before_b = b->closed_b = ROOT;
        if (b->best_t == -INFINITY)
            b->before_t = ROOT;
        reach(s, head_b(b));
        reach(s, b->before_t);
    }
    int32_t shared = shared_depth(s, 1);
    for (int32_t d = 0; d < shared; d++)
        s->settled[d] = s->nodes[s->first[d]];
    int64_t kept = 0;
    for (int64_t i = 0; i < s->node_count; i++) {
        int keep = s->moved[i] && s->depth[i] > shared;
        s->moved[i] = keep ? (int32_t)kept : ROOT;
        if (!keep)
            continue;
        Node node = s->nodes[i];
        node.before = node.before < 0 ? ROOT : s->moved[node.before];
        s->nodes[kept++] = node;
    }
    s->node_count = kept;
    s->settled_before += shared;
    for (int64_t i = 0; i < s->beams; i++) {
        Beam *b = beam_at(s->now, s->stride, i);
        b->before_b = b->before_b < 0 || b->closed_b != OPEN ? ROOT : s->moved[b->before_b];
        b->before_t = b->before_t < 0 ? ROOT : s->moved[b->before_t];
        b->closed_b = b->closed_b < 0 ? b->closed_b : s->moved[b->closed_b];
    }
    return shared;
}

/* ---- one frame ----------------------------------------------------------------------------------------------- */

/* Read a frame into `row`; list the labels that may extend. Returns their number, or -1 at NaN or +infinity. */
static int64_t read_frame(Search *s, const void *scores, int wide, int64_t index)
{
    const KdTables *t = s->tables;
    const double *doubles = (const double *)scores + index * t->classes;
    const float *floats = (const float *)scores + index * t->classes;
    double *row = s->row;
    int64_t count = 0;
    int sane = 1;
    for (int32_t c = 0; c < t->classes; c++) {
        row[c] = wide ? doubles[c] : (double)floats[c];
        sane &= row[c] < INFINITY;
    }
    if (!sane)
        return -1;
    s->raw_blank = row[t->blank];
    row[t->blank] -= t->penalty;
    for (int32_t c = 0; c < t->classes; c++)
        if (row[c] >= t->floor && c != t->blank && row[c] > -INFINITY)
            s->tokens[count++] = c;
    if (count || row[t->blank] >= t->floor)
        return count;
    int32_t best = 0; /* nothing reaches the floor: the best label may extend all the same */
    for (int32_t c = 1; c < t->classes; c++)
        best = row[c] > row[best] ? c : best;
    if (best == t->blank || row[best] == -INFINITY)
        return 0;
    s->tokens[0] = best;
    return 1;
}

/* The alignments of a beam go on with blank. */
static void go_blank(const Search *s, Beam *b)
{
    double blank = s->row[s->tables->blank];
    if (b->best_b < b->best_t) {
        b->best_b = b->best_t;
        b->before_b = b->before_t;
        b->begin_b = b->begin_t;
        b->end_b = s->frame;
        b->peak_b = b->peak_t;
        b->closed_b = OPEN;
    }
    b->best_b += blank;
    b->sum_b = b->total + blank;
}

/* The frame adds no token: it is blank, or holds the last token on. */
static void stay(const Search *s, Beam *b)
{
    double hold = b->last >= 0 ? s->row[b->last] : -INFINITY;
    go_blank(s, b);
    b->best_t += hold;
    b->peak_t = hold > b->peak_t ? hold : b->peak_t;
    b->sum_t += hold;
    b->total = log_add(b->sum_b, b->sum_t);
}

/* Acoustic score of beam `b` extended by `token`. The same token twice needs a blank between. */
static double extended(const Search *s, const Beam *b, int32_t token)
{
    return (b->last == token ? b->sum_b : b->total) + s->row[token];
}

static void build_slots(Search *s)
{
    memset(s->slots, 0, (size_t)(s->slot_mask + 1) * sizeof(int32_t));
    for (int64_t i = 0; i < s->beams; i++) {
        int64_t slot = (int64_t)beam_at(s->now, s->stride, i)->key & s->slot_mask;
        while (s->slots[slot])
            slot = (slot + 1) & s->slot_mask;
        s->slots[slot] = (int32_t)i + 1;
    }
}

static int64_t find_beam(const Search *s, uint64_t key)
{
    for (int64_t slot = (int64_t)key & s->slot_mask; s->slots[slot]; slot = (slot + 1) & s->slot_mask)
        if (beam_at(s->now, s->stride, s->slots[slot] - 1)->key == key)
            return s->slots[slot] - 1;
    return -1;
}

/* Add extensions that spell a beam there is to that beam in `next`. */
static void merge(Search *s, int64_t count)
{
    int built = 0;
    memset(s->taken, 0, (size_t)(s->beams * count));
    for (int64_t i = 0; i < s->beams; i++) {
        const Beam *child = beam_at(s->now, s->stride, i);
        if (child->last < 0 || s->column[child->last] < 0)
            continue;
        if (!built++)
            build_slots(s);
        int64_t parent = find_beam(s, child->parent);
        if (parent < 0)
            continue;
        const Beam *from = beam_at(s->now, s->stride, parent);
        Beam *to = beam_at(s->next, s->stride, i);
        int from_blank = from->last == child->last || from->best_b >= from->best_t;
        double best = (from_blank ? from->best_b : from->best_t) + s->row[child->last];
        s->taken[parent * count + s->column[child->last]] = 1;
        to->sum_t = log_add(to->sum_t, extended(s, from, child->last));
        to->total = log_add(to->sum_b, to->sum_t);
        if (best > to->best_t) {
            to->best_t = best;
            to->before_t = close_last(s, parent, from_blank);
            to->begin_t = s->frame;
            to->peak_t = s->row[child->last];
        }
    }
}

static KdBonus bonus_before(Search *s, const Beam *b)
{
    KdBonus bonus = {b->lm, b->ahead, b->hot, b->node, b->hot_state, b->context_length, 0, s->context};
    memcpy(s->context, b->context, (size_t)b->context_length * sizeof(int32_t));
    return bonus;
}

/* Bonus of a prefix that would be new; minus infinity when it is forbidden. */
static double extended_bonus(Search *s, const Beam *b, int32_t token)
{
    const KdTables *t = s->tables;
    if (!kd_adds_anything(t))
        return 0;
    uint64_t key = kd_mix(b->key, (uint64_t)token + 1);
    if (s->memo_key[key % MEMO] == key)
        return s->memo[key % MEMO];
    KdBonus bonus = bonus_before(s, b);
    double sum = kd_append(t, &bonus, token) ? bonus.lm + bonus.ahead + bonus.hot : -INFINITY;
    s->failed |= bonus.failed;
    s->memo_key[key % MEMO] = key;
    s->memo[key % MEMO] = sum;
    return sum;
}

/* Rank every beam that stays and every extension; returns the best rank. */
static double rank(Search *s, int64_t count)
{
    double top = -INFINITY;
    for (int64_t i = 0; i < s->beams; i++) {
        const Beam *b = beam_at(s->next, s->stride, i);
        s->ranks[i] = b->total + bonus_of(b);
        top = s->ranks[i] > top ? s->ranks[i] : top;
    }
    double *ranks = s->ranks + s->beams;
    for (int64_t i = 0; i < s->beams; i++) {
        const Beam *b = beam_at(s->now, s->stride, i);
        double most = b->lm + b->hot + s->tables->headroom;
        for (int64_t k = 0; k < count; k++, ranks++) {
            double total = extended(s, b, s->tokens[k]);
            if (s->taken[i * count + k] || total + most < top + s->tables->prune)
                *ranks = -INFINITY; /* it is a beam already, or could not survive with the best bonus */
            else
                *ranks = total + extended_bonus(s, b, s->tokens[k]);
            top = *ranks > top ? *ranks : top;
        }
    }
    return top;
}

/* The `rank`-th largest of `values`, counted from 0; reorders them. */
static double nth_largest(double *values, int64_t count, int64_t rank)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        double pivot = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i <= j) {
                double swap = values[i];
                values[i++] = values[j];
                values[j--] = swap;
            }
        }
        if (rank <= j)
            high = j;
        else if (rank >= i)
            low = i;
        else
            break;
    }
    return values[rank];
}

/* Set to NaN the ranks that do not survive: `width` do, equal ones the earlier first. */
static void select_best(Search *s, int64_t count, double top)
{
    double least = top + s->tables->prune;
    int64_t left = 0, ties = INT64_MAX;
    for (int64_t i = 0; i < count; i++)
        if (s->ranks[i] >= least && s->ranks[i] > -INFINITY)
            s->chosen[left++] = s->ranks[i];
    if (!left) { /* every label of the frame had probability zero */
        for (int64_t i = 0; i < count; i++)
            s->ranks[i] = i ? NAN : s->ranks[i];
        return;
    }
    if (left > s->tables->width) {
        least = nth_largest(s->chosen, left, s->tables->width - 1);
        ties = s->tables->width;
        for (int64_t i = 0; i < left; i++)
            ties -= s->chosen[i] > least;
    }
    for (int64_t i = 0; i < count; i++) {
        double r = s->ranks[i];
        int in = r > least || (r == least && ties-- > 0);
        s->ranks[i] = in && r > -INFINITY ? r : NAN;
    }
}

static void make_beam(Search *s, Beam *to, const int32_t *born)
{
    const Beam *from = beam_at(s->now, s->stride, born[0]);
    int32_t token = s->tokens[born[1]];
    int from_blank = from->last == token || from->best_b >= from->best_t;
    KdBonus bonus = bonus_before(s, from);
    kd_append(s->tables, &bonus, token);
    memset(to, 0, (size_t)s->stride);
    to->sum_b = to->best_b = -INFINITY;
    to->total = to->sum_t = extended(s, from, token);
    to->best_t = (from_blank ? from->best_b : from->best_t) + s->row[token];
    to->lm = bonus.lm;
    to->ahead = bonus.ahead;
    to->hot = bonus.hot;
    to->parent = from->key;
    to->key = kd_mix(from->key, (uint64_t)token + 1);
    to->last = token;
    to->node = bonus.node;
    to->hot_state = bonus.hot_state;
    to->context_length = bonus.context_length;
    to->before_b = to->closed_b = ROOT;
    to->before_t = born[2];
    to->begin_t = s->frame;
    to->peak_t = s->row[token];
    memcpy(to->context, bonus.context, (size_t)bonus.context_length * sizeof(int32_t));
}

/* Beams after a frame that may emit one of the first `count` of `tokens`. */
static void extend(Search *s, int64_t count)
{
    memcpy(s->next, s->now, (size_t)(s->beams * s->stride));
    for (int64_t i = 0; i < s->beams; i++) {
        stay(s, beam_at(s->next, s->stride, i));
        s->closed_t[i] = OPEN;
    }
    for (int64_t k = 0; k < count; k++)
        s->column[s->tokens[k]] = (int32_t)k;
    merge(s, count);
    for (int64_t k = 0; k < count; k++)
        s->column[s->tokens[k]] = -1;
    select_best(s, s->beams * (count + 1), rank(s, count));

    int64_t births = 0, kept = 0;
    for (int64_t i = 0; i < s->beams; i++) /* nodes first: they belong to beams that may not stay */
        for (int64_t k = 0; k < count; k++) {
            if (isnan(s->ranks[s->beams + i * count + k]))
                continue;
            const Beam *b = beam_at(s->now, s->stride, i);
            int32_t *born = s->born + 3 * births++;
            born[0] = (int32_t)i;
            born[1] = (int32_t)k;
            born[2] = close_last(s, i, b->last == s->tokens[k] || b->best_b >= b->best_t);
        }
    for (int64_t i = 0; i < s->beams; i++)
        if (!isnan(s->ranks[i])) {
            if (kept != i)
                memcpy(s->next + kept * s->stride, s->next + i * s->stride, (size_t)s->stride);
            kept++;
        }
    for (int64_t i = 0; i < births; i++)
        make_beam(s, beam_at(s->next, s->stride, kept++), s->born + 3 * i);
    char *swap = s->now;
    s->now = s->next;
    s->next = swap;
    s->beams = kept;
}

/* One more frame that is blank beyond doubt: nothing else can happen. */
static void rest(const Search *s, Beam *b)
{
    go_blank(s, b);
    b->total = b->sum_b;
    b->sum_t = b->best_t = -INFINITY;
}

/* Hash of the first tokens of a beam, up to `depth`; 0 where it has fewer. Nodes know their depths. */
static uint64_t key_at(const Search *s, const Beam *b, int64_t depth)
{
    int blank = b->best_b >= b->best_t, open = b->last >= 0 && (!blank || b->closed_b == OPEN);
    int32_t node = blank ? head_b(b) : b->before_t;
    if (open && depth == depth_of(s, node) + 1)
        return b->key;
    while (depth_of(s, node) > depth)
        node = s->nodes[node].before;
    return node >= 0 && s->depth[node] == depth ? s->nodes[node].key : 0;
}

static int64_t tokens_of(const Search *s, const Beam *b)
{
    int blank = b->best_b >= b->best_t;
    return depth_of(s, blank ? head_b(b) : b->before_t) + (b->last >= 0 && (!blank || b->closed_b == OPEN));
}

/* Drop the beams whose old tokens are not those of the best one. */
static void forget(Search *s)
{
    int64_t top = 0, kept = 0;
    for (int64_t i = 1; i < s->beams; i++) {
        const Beam *b = beam_at(s->now, s->stride, i), *best = beam_at(s->now, s->stride, top);
        if (b->total + bonus_of(b) > best->total + bonus_of(best))
            top = i;
    }
    measure_depths(s);
    const Beam *best = beam_at(s->now, s->stride, top);
    int64_t depth = tokens_of(s, best) - s->tables->history;
    if (depth < 1) /* what is settled, all have in common */
        return;
    uint64_t key = key_at(s, best, depth);
    for (int64_t i = 0; i < s->beams; i++) {
        if (key_at(s, beam_at(s->now, s->stride, i), depth) != key)
            continue;
        memmove(s->now + kept * s->stride, s->now + i * s->stride, (size_t)s->stride);
        kept++;
    }
    s->beams = kept;
}

static int64_t least(int64_t one, int64_t two) { return one < two ? one : two; }

/* Whether there is room for a frame that may emit `count` tokens; if not, how much is wanted. */
static int has_room(const Search *s, int64_t count, Report *report)
{
    int64_t ranks = s->beams * (count + 1), nodes = s->node_count + 2 * s->beams;
    int64_t beams = least(ranks, s->tables->width);
    if (beams <= s->max_beams && nodes <= s->max_nodes && ranks <= s->max_ranks)
        return 1;
    report->beams_wanted = beams;
    report->nodes_wanted = nodes;
    report->ranks_wanted = ranks;
    return 0;
}

/* ---- what Python calls --------------------------------------------------------------------------------------- */

KD_API int32_t kd_version(void) { return KD_VERSION; }

/* Bytes of work space for so many beams, nodes and ranks. */
KD_API int64_t kd_work_size(const KdTables *t, int64_t beams, int64_t nodes, int64_t ranks)
{
    Search s = {.max_beams = beams, .max_nodes = nodes, .max_ranks = ranks};
    return divide(&s, t, 0);
}

/* Write the state before the first frame into work space for one beam and one node; returns its size. */
KD_API int64_t kd_start(const KdTables *t, void *work)
{
    Search s = {.max_beams = 1, .max_nodes = 1, .max_ranks = 1};
    divide(&s, t, work);
    Beam *b = beam_at(s.now, s.stride, 0);
    memset(b, 0, (size_t)s.stride);
    b->sum_t = b->best_t = -INFINITY;
    b->key = 1;
    b->hot_state = t->hot_start;
    b->last = b->before_b = b->before_t = b->closed_b = ROOT;
    if (t->order > 1 && t->boundary) {
        b->context_length = 1;
        b->context[0] = t->bos;
    }
    s.beams = 1;
    return store(&s);
}

/* Read `frames` rows of scores ((frames, classes); doubles when `wide`), the first of them number `first`. */
KD_API int32_t kd_advance(const KdTables *t, const void *block, int64_t size, void *work, int64_t max_beams,
                          int64_t max_nodes, int64_t max_ranks, const void *scores, int32_t wide, int64_t frames,
                          int64_t first, Report *report)
{
    Search s = {.max_beams = max_beams, .max_nodes = max_nodes, .max_ranks = max_ranks};
    int32_t status = KD_OK;
    memset(report, 0, sizeof *report);
    divide(&s, t, work);
    if (!load(&s, block, size))
        return KD_BAD_STATE;
    memset(s.memo_key, 0, MEMO * sizeof(uint64_t));
    for (int32_t c = 0; c < t->classes; c++)
        s.column[c] = -1;
    for (; report->frames < frames; report->frames++) {
        s.frame = first + report->frames;
        int64_t count = read_frame(&s, scores, wide, report->frames);
        if (count < 0)
            return KD_BAD_SCORES;
        int quiet = s.raw_blank >= t->quiet;
        if (!(quiet && s.quiet) && !has_room(&s, count, report)) {
            status = KD_GROW;
            break;
        }
        if (quiet && s.quiet)
            for (int64_t i = 0; i < s.beams; i++)
                rest(&s, beam_at(s.now, s.stride, i));
        else if (count)
            extend(&s, count);
        else
            for (int64_t i = 0; i < s.beams; i++)
                stay(&s, beam_at(s.now, s.stride, i));
        s.quiet = quiet;
        if ((s.frame + 1) % t->forget_every == 0)
            forget(&s);
        if (s.failed)
            return KD_LM_FAILED;
    }
    report->settled = settle(&s);
    report->settled_at = (char *)s.settled - (char *)work;
    report->size = store(&s);
    return status;
}

static int in_order(const void *left, const void *right)
{
    const Found *one = left, *two = right;
    if (one->whole != two->whole)
        return two->whole - one->whole;
    if (one->score > two->score || one->score < two->score)
        return one->score < two->score ? 1 : -1;
    return one->beam - two->beam;
}

/* Tokens of the best alignment of a beam, written so that they end before `end`; returns how many. */
static int64_t trace(const Search *s, const Beam *b, int64_t frame, Node *end)
{
    int blank = b->best_b >= b->best_t;
    int32_t node = blank ? head_b(b) : b->before_t;
    int64_t count = 0;
    if (b->last >= 0 && (!blank || b->closed_b == OPEN)) {
        Node last = {ROOT, b->last, blank ? b->begin_b : b->begin_t, blank ? b->end_b : frame,
                     blank ? b->peak_b : b->peak_t, b->key};
        if (end)
            end[-1] = last;
        count++;
    }
    for (; node >= 0; node = s->nodes[node].before) {
        count++;
        if (end)
            end[-count] = s->nodes[node];
    }
    return count;
}

/* How many leading tokens of the best hypothesis no later frame can change, besides those that are settled; or an
 * error. The work space is for the nodes of the block and two more a beam. */
KD_API int64_t kd_stable(const KdTables *t, const void *block, int64_t size, void *work, int64_t max_beams,
                         int64_t max_nodes)
{
    Search s = {.max_beams = max_beams, .max_nodes = max_nodes + 2 * max_beams, .max_ranks = 1};
    divide(&s, t, work);
    if (!load(&s, block, size))
        return KD_BAD_STATE;
    int64_t alive = 0;
    for (int64_t i = 0; i < s.beams; i++)
        alive += beam_at(s.now, s.stride, i)->total > -INFINITY;
    if (!alive) /* everything has probability zero: the first hypothesis stays */
        s.beams = 1;
    for (int64_t i = 0; i < s.beams; i++) { /* give the last token of every alignment a node */
        Beam *b = beam_at(s.now, s.stride, i);
        if (b->closed_b == OPEN)
            b->closed_b = add_node(&s, b, 1, 0);
        if (b->best_t > -INFINITY)
            b->before_t = add_node(&s, b, 0, 0);
    }
    reach_none(&s);
    for (int64_t i = 0; i < s.beams; i++) {
        const Beam *b = beam_at(s.now, s.stride, i);
        if (has_blank(b))
            reach(&s, b->closed_b);
        if (b->best_t > -INFINITY)
            reach(&s, b->before_t);
    }
    return shared_depth(&s, 0);
}

/* Score beam `i` as a hypothesis; 0 when the language model failed. */
static int judge(Search *s, int64_t i, int final, Found *found)
{
    const Beam *b = beam_at(s->now, s->stride, i);
    KdBonus bonus = bonus_before(s, b);
    found->beam = (int32_t)i;
    found->whole = final ? kd_end(s->tables, &bonus) : 1;
    found->log_prob = b->total;
    found->lm = bonus.lm;
    found->hot = bonus.hot;
    found->score = b->total + bonus.lm + bonus.ahead + bonus.hot;
    return !bonus.failed;
}

/* The best hypotheses after `frame` frames: as many as there are, `count` at most, and the tokens of each, one
 * hypothesis after the other. `max_beams` and `max_nodes` are those of the block, the work space is for
 * KD_RANKS_A_BEAM ranks a beam. `*token_count` is the number of tokens; none is written where it exceeds
 * `max_tokens`. Returns the number of hypotheses, or an error. */
KD_API int64_t kd_nbest(const KdTables *t, const void *block, int64_t size, void *work, int64_t max_beams,
                        int64_t max_nodes, int64_t frame, int32_t final, int64_t count, Found *found, Node *tokens,
                        int64_t max_tokens, int64_t *token_count)
{
    Search s = {.max_beams = max_beams, .max_nodes = max_nodes, .max_ranks = max_beams * KD_RANKS_A_BEAM};
    divide(&s, t, work);
    if (!load(&s, block, size))
        return KD_BAD_STATE;
    Found *all = (Found *)(void *)s.ranks;
    for (int64_t i = 0; i < s.beams; i++)
        if (!judge(&s, i, final, all + i))
            return KD_LM_FAILED;
    qsort(all, (size_t)s.beams, sizeof *all, in_order);
    count = least(count, s.beams);
    *token_count = 0;
    for (int64_t i = 0; i < count; i++) {
        found[i] = all[i];
        found[i].tokens = trace(&s, beam_at(s.now, s.stride, all[i].beam), frame, 0);
        *token_count += found[i].tokens;
    }
    for (int64_t i = 0; i < count && *token_count <= max_tokens; i++) {
        tokens += found[i].tokens;
        trace(&s, beam_at(s.now, s.stride, found[i].beam), frame, tokens);
    }
    return count;
}
