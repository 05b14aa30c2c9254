"""What lm-evaluation-harness itself costs a case: a fake model answers at once, exact_match scores.

    python3 -m venv VENV && VENV/bin/pip install lm_eval && VENV/bin/python bench/evaluation/lm_eval_overhead.py

Processor time of simple_evaluate at two sizes; their difference leaves the start out.
"""

import json
import os
import resource
import sys
import tempfile
from importlib.metadata import version

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import lm_eval  # noqa: E402
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402


class Echo(LM):
    def generate_until(self, requests, disable_tqdm=True):
        return [answer(r.args[0]) for r in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def answer(question):
    if hash(question) % 10 == 0:
        return "nobody knows that"
    return "the answer is " + question[question.rindex(" ") + 1:]


def processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def evaluate(folder, n):
    path = os.path.join(folder, f"cases-{n}.jsonl")
    with open(path, "w") as f:
        for i in range(n):
            text = f"Of all the words that stand in a book of this length, which one is the one of number word{i}"
            f.write(json.dumps({"text": text, "want": f"the answer is word{i}"}) + "\n")
    task = ConfigurableTask(config=dict(
        task="echo", dataset_path="json", dataset_kwargs={"data_files": {"test": path}}, test_split="test",
        output_type="generate_until", doc_to_text="{{text}}", doc_to_target="{{want}}", generation_kwargs={"until": ["\n"]},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]))
    before = processor()
    lm_eval.simple_evaluate(model=Echo(), tasks=[task], bootstrap_iters=0, log_samples=True)
    return processor() - before


def main(small, large):
    with tempfile.TemporaryDirectory() as folder:
        evaluate(folder, 10)  # imports on first use
        a, b = evaluate(folder, small), evaluate(folder, large)
    print(f"lm_eval {version('lm_eval')}: {small} cases {a:.2f} s, {large} cases {b:.2f} s of processor time: "
          f"{1e6 * (b - a) / (large - small):.0f} us a case")


if __name__ == "__main__":
    main(*(int(n) for n in sys.argv[1:3])) if len(sys.argv) > 2 else main(1000, 10_000)
