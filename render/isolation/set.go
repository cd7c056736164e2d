package isolation

// set is a set of small numbers below a bound that all sets of one environment have.
type set []uint64

func newSet(bound int) set { return make(set, (bound+63)/64) }

func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) join(other set) {
	for i, w := range other {
		s[i] |= w
	}
}

func (s set) without(other set) set {
	out := make(set, len(s))
	for i, w := range s {
		out[i] = w &^ other[i]
	}
	return out
}

func (s set) and(other set) set {
	out := make(set, len(s))
	for i, w := range s {
		out[i] = w & other[i]
	}
	return out
}

func (s set) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s set) meets(other set) bool {
	for i, w := range s {
		if w&other[i] != 0 {
			return true
		}
	}
	return false
}
