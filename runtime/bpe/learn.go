package bpe

import (
	"container/heap"
	"fmt"
	"iter"
	"sort"
)

// Learn makes a tokenizer of exactly size tokens (256 bytes, the special token and size-257 merges; fewer
// merges only if the text has no more pairs that occur twice). The result depends on the texts' word counts
// alone: ties go to the pair with the smaller tokens. A pair whose bytes are a token already is passed over,
// because a name in tokenizer.json has one ID. Pair counts are kept up to date word by word, so the cost grows
// with what a merge touches and not with the corpus.
// Source: Sennrich, Haddow and Birch 2016, arXiv 1508.07909.
func Learn(texts iter.Seq[string], size int) (*Tokenizer, error) {
	if size < firstMerge || size > 1<<16 {
		return nil, fmt.Errorf("learn a vocabulary of %d tokens: give %d to %d", size, firstMerge, 1<<16)
	}
	counts := map[string]int{}
	for text := range texts {
		for len(text) > 0 {
			n := nextWord(text)
			counts[text[:n]]++
			text = text[n:]
		}
	}
	l := newLearner(counts)
	for len(l.bytes) < size {
		p, ok := l.best()
		if !ok {
			break
		}
		joined := l.bytes[p.left] + l.bytes[p.right]
		if l.taken[joined] {
			continue
		}
		l.taken[joined] = true
		l.bytes = append(l.bytes, joined)
		l.merge(p, len(l.bytes)-1)
	}
	return newTokenizer(l.merges), nil
}

type word struct {
	tokens []int
	count  int
}

// learner keeps, per pair, its count and the words that held it at some time. The heap may hold stale counts; best
// drops them.
type learner struct {
	words  []word
	count  map[pair]int
	where  map[pair]map[int]struct{}
	queue  pairQueue
	merges []pair
	bytes  []string // token to its bytes
	taken  map[string]bool
}

func newLearner(counts map[string]int) *learner {
	l := &learner{count: map[pair]int{}, where: map[pair]map[int]struct{}{}, bytes: newTokenizer(nil).bytes, taken: map[string]bool{}}
	texts := make([]string, 0, len(counts))
	for text := range counts {
		texts = append(texts, text)
	}
	sort.Strings(texts)
	for _, text := range texts {
		w := word{count: counts[text]}
		for i := range len(text) {
			w.tokens = append(w.tokens, byteToken(text[i]))
		}
		l.words = append(l.words, w)
		l.add(len(l.words)-1, 1, nil)
	}
	for p, n := range l.count {
		l.queue = append(l.queue, counted{p, n})
	}
	heap.Init(&l.queue)
	return l
}

// add counts the pairs of one word with a sign and notes the pairs in changed.
func (l *learner) add(index, signum int, changed map[pair]struct{}) {
	w := l.words[index]
	for i := 1; i < len(w.tokens); i++ {
		p := pair{w.tokens[i-1], w.tokens[i]}
		l.count[p] += signum * w.count
		if signum > 0 {
			if l.where[p] == nil {
				l.where[p] = map[int]struct{}{}
			}
			l.where[p][index] = struct{}{}
		}
		if changed != nil {
			changed[p] = struct{}{}
		}
	}
}

func (l *learner) best() (pair, bool) {
	for l.queue.Len() > 0 {
		top := heap.Pop(&l.queue).(counted)
		if now := l.count[top.pair]; now == top.count && now >= 2 {
			return top.pair, true
		}
	}
	return pair{}, false
}

func (l *learner) merge(p pair, token int) {
	l.merges = append(l.merges, p)
	changed := map[pair]struct{}{}
	for index := range l.where[p] {
		l.add(index, -1, changed)
		l.words[index].tokens = replace(l.words[index].tokens, p, token)
		l.add(index, 1, changed)
	}
	delete(l.where, p)
	delete(l.count, p)
	delete(changed, p)
	for q := range changed {
		if n := l.count[q]; n > 0 {
			heap.Push(&l.queue, counted{q, n})
			continue
		}
		delete(l.count, q)
		delete(l.where, q)
	}
}

// replace joins each p in tokens, from the left, in place.
func replace(tokens []int, p pair, token int) []int {
	out := tokens[:0]
	for i := 0; i < len(tokens); i++ {
		if i+1 < len(tokens) && tokens[i] == p.left && tokens[i+1] == p.right {
			out = append(out, token)
			i++
			continue
		}
		out = append(out, tokens[i])
	}
	return out
}

type counted struct {
	pair  pair
	count int
}

type pairQueue []counted

func (q pairQueue) Len() int { return len(q) }
func (q pairQueue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.count != b.count:
		return a.count > b.count
	case a.pair.left != b.pair.left:
		return a.pair.left < b.pair.left
	}
	return a.pair.right < b.pair.right
}
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairQueue) Push(x any)   { *q = append(*q, x.(counted)) }
func (q *pairQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
