package action

import (
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// lineEvery is how often progress is told where no line can be redrawn.
const lineEvery = 10 * time.Second

// Progress tells people how far long work is: a bar on a terminal, a line
// every ten seconds elsewhere. It is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	env   *Env
	what  string
	total int
	done  int
	told  time.Time
	bar   *progressbar.ProgressBar
}

// Progress begins to tell about work of total units; total 0 means unknown.
func (e *Env) Progress(what string, total int) *Progress {
	p := &Progress{env: e, what: what, total: total, told: e.Now()}
	if e.Terminal && !e.InActions() {
		length := total
		if length == 0 {
			length = -1
		}
		p.bar = progressbar.NewOptions(length,
			progressbar.OptionSetWriter(e.Stderr), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	}
	return p
}

// Add says that n more units are done; note, if any, is shown beside the count.
func (p *Progress) Add(n int, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.bar != nil {
		if note != "" {
			p.bar.Describe(p.what + " " + note)
		}
		p.bar.Add(n)
		return
	}
	if now := p.env.Now(); now.Sub(p.told) >= lineEvery {
		p.told = now
		p.tell(note)
	}
}

// Finish ends the telling.
func (p *Progress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Finish()
	}
}

func (p *Progress) tell(note string) {
	count := fmt.Sprint(p.done)
	if p.total > 0 {
		count = fmt.Sprintf("%d/%d", p.done, p.total)
	}
	if note != "" {
		note = " " + note
	}
	p.env.Logf("%s: %s%s", p.what, count, note)
}
