package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestPersonalDataIsMaskedByItsForm(t *testing.T) {
	t.Parallel()
	m, err := lifecycle.NewMasker(lifecycle.PersonalKinds(), []string{`(?i)ticket \d+`})
	require.NoError(t, err)
	for text, want := range map[string]string{
		"":                                     "",
		"nothing to see at 12:30":              "nothing to see at 12:30",
		"jo.doe+x@mail.example.com!":           "[email]!",
		"card 4111-1111-1111-1111.":            "card [card].",
		"no card 4111-1111-1111-1112":          "no card 4111-1111-1111-1112",
		"to DE89 3704 0044 0532 0130 00 today": "to [iban] today",
		"from 192.168.7.255":                   "from [ip]",
		"version 1.2.3":                        "version 1.2.3",
		"not 300.1.1.1":                        "not 300.1.1.1",
		"call +49 170 1234567":                 "call [phone]",
		"see Ticket 42":                        "see [redacted]",
	} {
		require.Equal(t, want, m.Mask(text), text)
		require.Equal(t, want, m.Mask(m.Mask(text)), "masking again changes nothing: %s", text)
	}
	require.Equal(t, "jo@example.com", (*lifecycle.Masker)(nil).Mask("jo@example.com"))
	none, err := lifecycle.NewMasker(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "jo@example.com", none.Mask("jo@example.com"))
	_, err = lifecycle.NewMasker([]string{"names"}, []string{"(", "x*"})
	for _, path := range []string{"redact.kinds[0]", "redact.patterns[0]", "redact.patterns[1]"} {
		require.ErrorContains(t, err, path)
	}
}
