/* The prefix beam search of decoders/beam.py, compiled: what Python calls.
 *
 * `kd_advance` copies a state (see state.h) into work space of the caller, works there frame by frame (search.h),
 * and leaves the next state at the start of it. Nothing is allocated and nothing is kept: every function is a
 * function of its arguments, so any number of threads may call it.
 */
#include <stdlib.h>

#include "search.h"

#if defined(_WIN32)
#define KD_API __declspec(dllexport)
#else
#define KD_API __attribute__((visibility("default")))
#endif

enum { KD_VERSION = 1 }; /* of the interface; library.py asks for it */
enum { KD_OK = 0, KD_GROW = 1, KD_BAD_STATE = -1, KD_BAD_SCORES = -2, KD_LM_FAILED = -3 };
enum { KD_RANKS_A_BEAM = 6 }; /* room for one Found */

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
    count = smaller(count, s.beams);
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
