package score

import (
	"math"
	"regexp"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

func bleu(none, World) (Scorer, error) {
	return pure(func(item Item) (float64, error) {
		if len(item.Want) == 0 {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "the case has no reference answer")
		}
		item = within(item)
		return sentenceBLEU(item.Said, item.Want), nil
	}), nil
}

const bleuOrder = 4 // words of the longest n-gram

// sentenceBLEU is sacrebleu's: n-grams are clipped by the reference that has most of each, the brevity penalty takes the
// nearest reference length (the shorter of two), precisions of 0 are halved again and again (exp), and orders that the
// answer is too short for do not count.
func sentenceBLEU(said string, want []string) float64 {
	words := words13a(said)
	clip := make([]map[string]int, bleuOrder)
	nearest := -1
	for _, reference := range want {
		split := words13a(reference)
		if d, best := abs(len(split)-len(words)), abs(nearest-len(words)); nearest < 0 || d < best || d == best && len(split) < nearest {
			nearest = len(split)
		}
		for n := range clip {
			if clip[n] == nil {
				clip[n] = map[string]int{}
			}
			for gram, times := range counts(split, n+1) {
				clip[n][gram] = max(clip[n][gram], times)
			}
		}
	}
	sum, smooth, anyRight := 0.0, 1.0, false
	orders := 0
	for n := range bleuOrder {
		total := len(words) - n
		if total <= 0 {
			break
		}
		right := 0
		for gram, times := range counts(words, n+1) {
			right += min(times, clip[n][gram])
		}
		orders = n + 1
		if right == 0 {
			smooth *= 2
			sum += math.Log(1 / (smooth * float64(total)))
			continue
		}
		anyRight = true
		sum += math.Log(float64(right) / float64(total))
	}
	if !anyRight {
		return 0
	}
	penalty := 1.0
	if len(words) < nearest {
		penalty = math.Exp(1 - float64(nearest)/float64(len(words)))
	}
	return penalty * math.Exp(sum/float64(orders))
}

func abs(n int) int { return max(n, -n) }

// split13a are the replacements of mteval-v13a, in order.
var split13a = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile("([\\{-\\~\\[-\\` -\\&\\(-\\+\\:-\\@\\/])"), " $1 "},
	{regexp.MustCompile(`([^0-9])([\.,])`), "$1 $2 "},
	{regexp.MustCompile(`([\.,])([^0-9])`), " $1 $2"},
	{regexp.MustCompile(`([0-9])(-)`), "$1 $2 "},
}

// entities13a are replaced one after another, so that &amp;lt; becomes <.
var entities13a = [][2]string{{"&quot;", `"`}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}}

// words13a is the tokenizer 13a of WMT.
func words13a(text string) []string {
	text = strings.TrimRight(text, " \t\n\r\f\v")
	text = strings.ReplaceAll(text, "<skipped>", "")
	text = strings.ReplaceAll(text, "-\n", "")
	text = strings.ReplaceAll(text, "\n", " ")
	for _, entity := range entities13a {
		text = strings.ReplaceAll(text, entity[0], entity[1])
	}
	text = " " + text + " "
	for _, step := range split13a {
		text = step.what.ReplaceAllString(text, step.with)
	}
	return strings.Fields(text)
}
