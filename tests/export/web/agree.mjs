// node agree.mjs CASES.json: decode log-probabilities and spell ids, for a comparison with the Python runtime.
import { readFileSync } from 'node:fs';
import { FORMAT_VERSIONS, GreedyDecoder, Vocabulary } from '../../../export/kdcompress_export/web/kdcompress.mjs';

const { cases, texts } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const decoded = cases.map(({ classes, blank, penalty, pieces }) => {
  const decoder = new GreedyDecoder(classes, blank, { blankPenalty: penalty });
  const state = pieces.reduce((before, piece) => decoder.advance(before, Float32Array.from(piece)), decoder.initState());
  return decoder.best(state);
});
const spelt = texts.map(({ tokens, ids }) => {
  const vocabulary = Vocabulary.parse(tokens);
  return { symbols: vocabulary.symbols, blank: vocabulary.blankId, text: vocabulary.text(ids) };
});
console.log(JSON.stringify({ versions: FORMAT_VERSIONS, decoded, spelt }));
