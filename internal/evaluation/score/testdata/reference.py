"""Writes reference.json: what reference implementations give for the texts below. Run by hand, with
rouge-score, sacrebleu and pytrec-eval-terrier installed, and transformers for SQuAD's script."""
import importlib.metadata as m, json
import pytrec_eval, sacrebleu
from rouge_score import rouge_scorer
from transformers.data.metrics import squad_metrics

TEXTS = [
    ("The cat sat on the mat.", ["The cat sat on the mat."]),
    ("A cat was sitting on the mat", ["The cat sat on the mat.", "There is a cat on the mat."]),
    ("the the the the the the the", ["The cat is on the mat.", "There is a cat on the mat."]),
    ("It costs $3.50, or 4-5 euros; see <a> &amp; 'b'.", ["It costs $3.50 (4-5 euros), see <a> & \"b\"."]),
    ("forty-two", ["42", "forty two"]),
    ("", ["something"]),
    ("!!!", ["...", "?"]),
    ("Käse schmeckt gut, naïve Leute sagen: nein", ["Der Käse schmeckt sehr gut", "naïve Leute sagen ja"]),
    ("server returns an error after the reader closes the stream early", ["an error is returned by the server when the reader closes its stream"]),
    ("one two three four five six seven eight", ["one two three four", "five six seven eight nine ten"]),
    ("x", ["x y z"]),
    ("An apple; the pear, a plum!", ["apple pear plum"]),
]
RUNS = [
    (["d1", "d2", "d3", "d4"], {"d2": 1}),
    (["d1", "d2", "d3", "d4"], {"d1": 2, "d4": 1, "d9": 3}),
    (["d5", "d6"], {"d1": 1}),
    ([f"d{i}" for i in range(1, 16)], {"d3": 1, "d7": 2, "d12": 3, "d13": 0, "d40": 1}),
]

rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
texts = []
for said, want in TEXTS:
    texts.append({
        "said": said, "want": want,
        "bleu": sacrebleu.sentence_bleu(said, want).score / 100,
        "chrf": sacrebleu.sentence_chrf(said, want).score / 100,
        "rouge-l": max(rouge.score(w, said)["rougeL"].fmeasure for w in want),
        "token-f1": float(max(squad_metrics.compute_f1(w, said) for w in want)),
        "normalised": float(max(squad_metrics.compute_exact(w, said) for w in want)),
    })
runs = []
for found, relevant in RUNS:
    measures = {"recip_rank", "recall.5", "recall.10", "success.5", "success.10", "ndcg_cut.5", "ndcg_cut.10"}
    got = pytrec_eval.RelevanceEvaluator({"q": relevant}, measures).evaluate({"q": {d: 100.0 - i for i, d in enumerate(found)}})["q"]
    runs.append({"found": found, "relevant": relevant, **got})
json.dump({
    "tools": {p: m.version(p) for p in ["rouge-score", "sacrebleu", "pytrec-eval-terrier", "transformers"]},
    "texts": texts, "runs": runs,
}, open("reference.json", "w"), indent=1, ensure_ascii=False)
