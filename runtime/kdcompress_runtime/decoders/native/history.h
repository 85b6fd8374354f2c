/* Tokens behind the search: nodes, what all alignments share, and the end of old differences. */
#ifndef KD_HISTORY_H
#define KD_HISTORY_H

#include "state.h"

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

#endif
