/* One frame of the search: decoders/beam.py, with the same numbers. */
#ifndef KD_SEARCH_H
#define KD_SEARCH_H

#include "history.h"

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

static int64_t smaller(int64_t one, int64_t two) { return one < two ? one : two; }

/* Whether there is room for a frame that may emit `count` tokens; if not, how much is wanted. */
static int has_room(const Search *s, int64_t count, Report *report)
{
    int64_t ranks = s->beams * (count + 1), nodes = s->node_count + 2 * s->beams;
    int64_t beams = smaller(ranks, s->tables->width);
    if (beams <= s->max_beams && nodes <= s->max_nodes && ranks <= s->max_ranks)
        return 1;
    report->beams_wanted = beams;
    report->nodes_wanted = nodes;
    report->ranks_wanted = ranks;
    return 0;
}

#endif
