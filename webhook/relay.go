package webhook

import (
	"strconv"
	"strings"
)

// MaxRelayed is how many events one text holds.
const MaxRelayed = 20

// Encode writes events as a short text, for one process to tell another by. More
// than MaxRelayed are Anything.
func Encode(events []Event) string {
	var words []string
	for _, e := range events {
		word := string(e.Kind)
		switch e.Kind {
		case Push:
			word += ":" + e.Ref
		case PullRequest:
			word += ":" + strconv.Itoa(e.Number)
		case Check:
			word += ":" + e.Commit
		case Anything:
		default:
			continue
		}
		words = append(words, word)
	}
	if len(words) > MaxRelayed {
		return string(Anything)
	}
	return strings.Join(words, " ")
}

// Decode reads what Encode wrote. What it does not understand is Anything: whoever
// wrote it had something to tell.
func Decode(text string) []Event {
	words := strings.Fields(text)
	if len(words) > MaxRelayed {
		return []Event{{Kind: Anything}}
	}
	var events []Event
	for _, word := range words {
		kind, value, _ := strings.Cut(word, ":")
		e := Event{Kind: Kind(kind)}
		ok := e.Kind == Anything && value == ""
		switch e.Kind {
		case Push:
			e.Ref, ok = value, refFormat.MatchString(value)
		case PullRequest:
			n, err := strconv.ParseInt(value, 10, 32)
			e.Number, ok = int(n), err == nil && n > 0
		case Check:
			e.Commit, ok = value, commitFormat.MatchString(value)
		}
		if !ok {
			return []Event{{Kind: Anything}}
		}
		events = append(events, e)
	}
	return events
}
