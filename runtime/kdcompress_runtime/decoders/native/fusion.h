/* What a token adds to a prefix beyond acoustics: language model, look-ahead in the trie of words, hotwords.
 *
 * The rules, the tables and their layouts are those of decoders/fusion.py, trie.py, hotwords.py and lm/ngram.py;
 * nothing here is written to, so one KdTables serves any number of threads.
 */
#ifndef KD_FUSION_H
#define KD_FUSION_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { KD_NO_LM = 0, KD_WORD_LM = 1, KD_TOKEN_LM = 2 };
enum { KD_SEPARATOR = 0 }; /* letter id of the word separator */
enum { KD_MAX_ORDER = 32 };

/* ln P(word | context), oldest word of the context first; NaN when the model failed. */
typedef double (*KdScore)(const int32_t *context, int32_t length, int32_t word);

/* Everything a decoder knows. Mirrored field by field in library.py. */
typedef struct {
    int32_t classes, blank, width;
    int32_t unit;         /* KD_NO_LM, KD_WORD_LM or KD_TOKEN_LM */
    int32_t order;        /* of the language model; contexts hold order - 1 words */
    int32_t words;        /* known to the language model */
    int32_t bos, eos;
    int32_t boundary;     /* whether the end of a sentence is scored */
    int32_t looks_ahead;  /* whether a word in progress is ranked by the best word that it can become */
    int32_t closed;       /* whether only words of the trie are allowed */
    int32_t trie_nodes;   /* 0: words are not followed */
    int32_t letters;      /* distinct letters */
    int32_t hot_states;   /* 0: no hotwords */
    int32_t hot_start;    /* state before the first letter */
    int32_t history, forget_every; /* as in decoders/beam.py */
    int32_t reserved;
    double prune, floor, penalty;
    double quiet;         /* log-probability of blank from which frames may be skipped; infinity: never */
    double alpha, beta, unknown_score;
    double unknown_ahead; /* look-ahead of a word that is not in the trie, weighted */
    double headroom;      /* the most that one token can add to lm + look-ahead + hotwords, look-ahead before it 0 */
    const int32_t *spelling_start, *spelling; /* letters of each token */
    const int32_t *token_words;               /* word id of each token, for a model over tokens */
    const int32_t *edge_start, *edge_letter, *edge_node, *trie_word;
    const float *trie_best;
    const int32_t *hot_next; /* (hot_states, letters) */
    const double *hot_gain;  /* the same */
    const double *hot_end;
    const float *unigrams; /* (words, 2): ln probability, ln back-off; null: ask `score` */
    const uint64_t *keys;
    const float *values; /* (key_mask + 1, 2) */
    uint64_t key_mask;
    KdScore score;
} KdTables;

/* State of a prefix besides its acoustics; `context` is newest first. */
typedef struct {
    double lm, ahead, hot;
    int32_t node, hot_state, context_length;
    int32_t failed;  /* the language model gave no number */
    int32_t *context; /* room for order - 1 words */
} KdBonus;

static uint64_t kd_mix(uint64_t hash, uint64_t next)
{
    uint64_t value = hash * UINT64_C(0x9E3779B97F4A7C15) + next;
    value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

/* Values of the n-gram `word` after `length` words of `context`, or null. */
static const float *kd_ngram(const KdTables *t, const int32_t *context, int32_t length, int32_t word)
{
    uint64_t hash = kd_mix(UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)length + 1, (uint64_t)word + 1);
    for (int32_t i = 0; i < length; i++)
        hash = kd_mix(hash, (uint64_t)context[i] + 1);
    if (hash == 0)
        hash = 1;
    for (uint64_t tries = 0; tries <= t->key_mask; tries++) {
        uint64_t slot = (hash + tries) & t->key_mask;
        if (t->keys[slot] == hash)
            return t->values + 2 * slot;
        if (t->keys[slot] == 0)
            break;
    }
    return 0;
}

static double kd_word_score(const KdTables *t, const int32_t *context, int32_t length, int32_t word)
{
    if (!t->unigrams) {
        int32_t oldest_first[KD_MAX_ORDER];
        for (int32_t i = 0; i < length; i++)
            oldest_first[i] = context[length - 1 - i];
        return t->score(oldest_first, length, word);
    }
    double back_off = 0;
    for (int32_t n = length; n > 0; n--) {
        const float *found = kd_ngram(t, context, n, word);
        if (found)
            return back_off + found[0];
        found = n == 1 ? t->unigrams + 2 * (int64_t)context[0] : kd_ngram(t, context + 1, n - 1, context[0]);
        if (found)
            back_off += found[1];
    }
    return back_off + t->unigrams[2 * (int64_t)word];
}

static double kd_weighted(const KdTables *t, KdBonus *bonus, int32_t word)
{
    if (t->alpha == 0) /* of whatever, minus infinity included */
        return 0;
    double score = kd_word_score(t, bonus->context, bonus->context_length, word);
    bonus->failed |= isnan(score);
    return t->alpha * (word == 0 ? score + t->unknown_score : score);
}

/* A word (or token) is complete: score it and remember it. */
static void kd_say(const KdTables *t, KdBonus *bonus, int32_t word)
{
    bonus->lm += kd_weighted(t, bonus, word) + t->beta;
    if (t->order < 2)
        return;
    if (bonus->context_length < t->order - 1)
        bonus->context_length++;
    memmove(bonus->context + 1, bonus->context, (size_t)(bonus->context_length - 1) * sizeof(int32_t));
    bonus->context[0] = word;
}

/* Whether the word in progress may end here. */
static int kd_may_end(const KdTables *t, int32_t node)
{
    return !t->closed || (node >= 0 && t->trie_word[node] >= 0);
}

static void kd_end_word(const KdTables *t, KdBonus *bonus)
{
    if (t->unit == KD_WORD_LM) {
        int32_t word = bonus->node < 0 ? 0 : t->trie_word[bonus->node];
        kd_say(t, bonus, word < 0 ? 0 : word);
    }
    bonus->node = 0;
}

static int32_t kd_child(const KdTables *t, int32_t node, int32_t letter)
{
    int32_t low = t->edge_start[node], high = t->edge_start[node + 1];
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (t->edge_letter[middle] < letter)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->edge_start[node + 1] && t->edge_letter[low] == letter ? t->edge_node[low] : -1;
}

static int kd_adds_anything(const KdTables *t) { return t->trie_nodes || t->hot_states || t->unit != KD_NO_LM; }

/* Append `token`; 0 when the lexicon forbids it. `bonus` starts as that of the prefix before. */
static int kd_append(const KdTables *t, KdBonus *bonus, int32_t token)
{
    if (!kd_adds_anything(t))
        return 1;
    for (int32_t i = t->spelling_start[token]; i < t->spelling_start[token + 1]; i++) {
        int32_t letter = t->spelling[i];
        if (t->hot_states) {
            int64_t cell = (int64_t)bonus->hot_state * t->letters + letter;
            bonus->hot += t->hot_gain[cell];
            bonus->hot_state = t->hot_next[cell];
        }
        if (!t->trie_nodes)
            continue;
        if (letter == KD_SEPARATOR) {
            if (bonus->node == 0)
                continue;
            if (!kd_may_end(t, bonus->node))
                return 0;
            kd_end_word(t, bonus);
        } else if (bonus->node >= 0) {
            bonus->node = kd_child(t, bonus->node, letter);
            if (bonus->node < 0 && t->closed)
                return 0;
        }
    }
    if (t->unit == KD_TOKEN_LM)
        kd_say(t, bonus, t->token_words[token]);
    bonus->ahead = 0;
    if (t->looks_ahead)
        bonus->ahead = bonus->node < 0 ? t->unknown_ahead : bonus->node > 0 ? t->alpha * t->trie_best[bonus->node] : 0;
    return 1;
}

/* The utterance ends here; returns 0 when its last word is not a whole word of the lexicon. */
static int kd_end(const KdTables *t, KdBonus *bonus)
{
    int whole = bonus->node == 0 || kd_may_end(t, bonus->node);
    if (t->trie_nodes && bonus->node != 0)
        kd_end_word(t, bonus);
    if (t->unit != KD_NO_LM && t->boundary)
        bonus->lm += kd_weighted(t, bonus, t->eos);
    if (t->hot_states)
        bonus->hot += t->hot_end[bonus->hot_state];
    bonus->ahead = 0;
    return whole;
}

#endif
