package buffers

// Loan is what a request borrowed. It is one goroutine's.
type Loan struct {
	pool     *Pool
	borrowed [][]byte
}

// NewLoan borrows from a pool.
func NewLoan(p *Pool) *Loan { return &Loan{pool: p, borrowed: make([][]byte, 0, 4)} }

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
