package score

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// maxOverlap bounds the texts whose words are compared, in bytes: the longest common subsequence takes the product.
const maxOverlap = 64 << 10

// within cuts answer and references to the bound.
func within(item Item) Item {
	short := func(text string) string {
		if len(text) <= maxOverlap {
			return text
		}
		return strings.ToValidUTF8(text[:maxOverlap], "")
	}
	item.Said = short(item.Said)
	want := make([]string, len(item.Want))
	for i := range want {
		want[i] = short(item.Want[i])
	}
	item.Want = want
	return item
}

func tokenF1(none, World) (Scorer, error) {
	return pure(func(item Item) (float64, error) {
		item = within(item)
		said := strings.Fields(normalise(item.Said))
		return best(item, func(want string) float64 { return f1(said, strings.Fields(normalise(want))) })
	}), nil
}

// f1 is compute_f1 of SQuAD's script: where either side has no word left, both must have none.
func f1(said, want []string) float64 {
	if len(said) == 0 || len(want) == 0 {
		return truth(len(said) == len(want))
	}
	same := 0
	left := counts(want, 1)
	for _, word := range said {
		if left[word] > 0 {
			left[word]--
			same++
		}
	}
	return harmonic(float64(same)/float64(len(said)), float64(same)/float64(len(want)), 1)
}

// harmonic is the F-beta of precision and recall; 0 where both are.
func harmonic(precision, recall, beta float64) float64 {
	if precision+recall == 0 {
		return 0
	}
	return (1 + beta*beta) * precision * recall / (beta*beta*precision + recall)
}

// counts counts the n-grams of words.
func counts(words []string, n int) map[string]int {
	m := map[string]int{}
	for i := range len(words) - n + 1 {
		m[strings.Join(words[i:i+n], " ")]++
	}
	return m
}

type rougeSettings struct {
	Unicode bool `json:"unicode"` // words of any script; the reference implementation knows a to z and 0 to 9 only
}

func rougeL(s rougeSettings, _ World) (Scorer, error) {
	split := asciiWords
	if s.Unicode {
		split = unicodeWords
	}
	return pure(func(item Item) (float64, error) {
		item = within(item)
		said := split(item.Said)
		return best(item, func(want string) float64 {
			reference := split(want)
			if len(said) == 0 || len(reference) == 0 {
				return 0
			}
			common := float64(longestCommon(said, reference))
			return harmonic(common/float64(len(said)), common/float64(len(reference)), 1)
		})
	}), nil
}

// asciiWords is the tokenizer of rouge-score: small letters, and everything but a-z and 0-9 is a space.
func asciiWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

func unicodeWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r)
	})
}

// longestCommon is the length of the longest common subsequence.
func longestCommon(a, b []string) int {
	row := make([]int, len(b)+1)
	for _, x := range a {
		diagonal := 0
		for j, y := range b {
			above := row[j+1]
			if x == y {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

type groundedSettings struct {
	Words int `json:"words"` // of an n-gram; default 3
}

// grounded is the share of the answer's n-grams, each counted as often as it comes, that stand in one of the
// passages. An answer of fewer words is one n-gram as a whole; one without a word is supported by nothing.
func grounded(s groundedSettings, _ World) (Scorer, error) {
	if err := positive("words", &s.Words, 3, 10); err != nil {
		return Scorer{}, err
	}
	return pure(func(item Item) (float64, error) {
		if len(item.Passages) == 0 {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "there is no passage: the case has none, and the release showed none")
		}
		said := unicodeWords(item.Said)
		if len(said) == 0 {
			return 0, nil
		}
		n := min(s.Words, len(said))
		there := map[string]bool{}
		for _, passage := range item.Passages {
			for gram := range counts(unicodeWords(passage), n) {
				there[gram] = true
			}
		}
		supported, all := 0, 0
		for gram, times := range counts(said, n) {
			all += times
			if there[gram] {
				supported += times
			}
		}
		return float64(supported) / float64(all), nil
	}), nil
}

func chrF(none, World) (Scorer, error) {
	return pure(func(item Item) (float64, error) {
		item = within(item)
		return best(item, func(want string) float64 { return chrf(item.Said, want) })
	}), nil
}

const (
	chrOrder = 6 // characters of the longest n-gram
	chrBeta  = 2 // recall counts that much more than precision
)

// chrf averages precision and recall over the orders that both texts have, as sacrebleu does.
func chrf(said, want string) float64 {
	said, want = strings.Join(strings.Fields(said), ""), strings.Join(strings.Fields(want), "")
	precision, recall, orders := 0.0, 0.0, 0.0
	for n := 1; n <= chrOrder; n++ {
		a, sizeA := characters(said, n)
		b, sizeB := characters(want, n)
		if sizeA == 0 || sizeB == 0 {
			continue
		}
		same := 0
		for gram, times := range a {
			same += min(times, b[gram])
		}
		precision += float64(same) / float64(sizeA)
		recall += float64(same) / float64(sizeB)
		orders++
	}
	if orders == 0 {
		return 0
	}
	return harmonic(precision/orders, recall/orders, chrBeta)
}

// characters counts n-grams of characters, and how many there are.
func characters(text string, n int) (map[string]int, int) {
	var starts []int
	for i := range text {
		starts = append(starts, i)
	}
	starts = append(starts, len(text))
	grams := map[string]int{}
	total := max(0, utf8.RuneCountInString(text)-n+1)
	for i := range total {
		grams[text[starts[i]:starts[i+n]]]++
	}
	return grams, total
}
