// Package form reads suites as people write them: one YAML file, or a folder of suite.yaml and files of cases in JSONL. It
// is a room of thought: files come through fs.FS, and the same files give the same suite.
//
// # The form
//
//	suite: support             # name: small letters, digits and dashes
//	seed: 7                    # that seeds of answers are drawn from; default 0
//	split: gate                # of cases that say nothing else: gate (default) or search
//	capabilities:
//	  - name: facts
//	    ask: generate          # generate, choice, likelihood or retrieval
//	    score: token-f1        # or {name: numeric, settings: {relative: 0.01}}
//	    margin: 0.05           # drop that is still accepted; 0.05 where scores lie between 0 and 1
//	    exact: false           # judge by exact limits, which ask for more cases; scores must lie between 0 and 1
//	    split: gate
//	    tags: [faq]
//	    sampling: {temperature: 0, top_p: 1, max_tokens: 64, samples: 1, seed: 7}
//	    files: [facts.jsonl]   # one case a line, with the fields of a case
//	    cases:
//	      - id: capital        # default: made of what is asked
//	        group: geography   # cases of one source; default: the case itself
//	        weight: 1          # whole number
//	        tags: [europe]
//	        split: gate
//	        text: What is the capital of France?
//	        messages: [{role: user, content: ...}]   # a chat in place of text; its last message is the user's
//	        want: Paris        # or a list: any of them is right; for ask: likelihood the text that is measured after the other
//	        choices: [Paris, Rome]                   # for ask: choice
//	        relevant: {doc-1: 2, doc-2: 1}           # documents by grade, for ask: retrieval; or name them in want
//	        passages: [...]    # that the answer must be supported by; default: those that the release shows
//	        human: {said: Lyon, score: 0}            # what a person said of an answer; over: the other one where two are compared
//
// Reading is strict: an unknown field is a fault that names the fields there are, and all faults are told at once, each
// with file and line. Aliases of YAML are refused. Case IDs are the capability's name, a slash, and the ID given or made.
//
// # Bounds
//
// The YAML file holds at most 4 MiB, a line of JSONL 1 MiB, all files together 512 MiB and 1,000,000 cases.
package form
