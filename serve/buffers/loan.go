package buffers

// Loan is what a request borrowed. It is one goroutine's.
type Loan struct {
	pool     *Pool
	borrowed [][]byte
	room     [4][]byte // for the first of them
}

// NewLoan borrows from a pool.
func NewLoan(p *Pool) *Loan {
	l := &Loan{pool: p}
	l.borrowed = l.room[:0]
	return l
}

// Get lends n bytes until End. Where before is given, which is what was lent
// last, they begin as it does, and take its place: the caller must not touch it
// any more.
func (l *Loan) Get(n int, before []byte) []byte {
	b := l.pool.Get(n)
	if before == nil {
		l.borrowed = append(l.borrowed, b)
		return b
	}
	copy(b, before)
	l.borrowed[len(l.borrowed)-1] = b
	l.pool.Put(before)
	return b
}

// End gives everything back.
func (l *Loan) End() {
	for _, b := range l.borrowed {
		l.pool.Put(b)
	}
	l.borrowed = nil
}
