// Package traffic plays users: an open loop of image requests with the keys of
// a seeded population, until its time is over or somebody ends it, and a
// report of what was sent, what failed and which model answered.
//
// Users are not alike. How often one comes follows a Zipf-Mandelbrot law
// (Mandelbrot 1953), flattened so that no single user is more than a fraction
// of a percent of the traffic: a split by key then shares the requests nearly
// as it shares the users.
//
// Refused: retries, which would hide what users meet, and success counted by
// status alone.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/internal/openloop"
)

// Profile says who comes how often.
type Profile struct {
	Rate     float64       // requests per second
	Duration time.Duration // 0: until the context ends
	Users    int           // size of the population
	Seed     uint64        // everything drawn follows from it
}

// Validate refuses what cannot be played; errors name the flag.
func (p Profile) Validate() error {
	switch {
	case !(p.Rate > 0) || math.IsInf(p.Rate, 0):
		return fmt.Errorf("--rate %g: give the requests per second, for example 20", p.Rate)
	case p.Duration < 0:
		return fmt.Errorf("--duration %s: cannot be negative", p.Duration)
	case p.Users < 1:
		return fmt.Errorf("--users %d: at least one user is needed", p.Users)
	}
	return nil
}

// zipfExponent and flatten shape the population: user k comes in proportion to
// (users/flatten + k)^-zipfExponent. Of 10,000 users the busiest then sends
// 0.15% of the requests.
const (
	zipfExponent = 1.1
	flatten      = 50
)

// Key is the user who sends the i-th request. It depends on nothing but the
// profile and i, so that requests may begin in any order.
func (p Profile) Key(i int) string {
	random := rand.New(rand.NewPCG(p.Seed, uint64(i)))
	zipf := rand.NewZipf(random, zipfExponent, max(1, float64(p.Users)/flatten), uint64(p.Users-1))
	return "user-" + strconv.FormatUint(zipf.Uint64(), 10)
}

// arrivals are the profile's offsets from the start; endless where it has no
// duration.
func (p Profile) arrivals() iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		for at := range openloop.Arrivals(p.Rate, p.Seed) {
			if p.Duration > 0 && at >= p.Duration || !yield(at) {
				return
			}
		}
	}
}

// Poster sends one image as a user and says what became of it.
type Poster interface {
	Post(ctx context.Context, intended time.Time, key string, image openloop.Image) openloop.Answer
}

// Options is what Play needs.
type Options struct {
	Profile  Profile
	Images   []openloop.Image
	Client   Poster
	InFlight int // requests beyond so many at once are dropped, and count as failed
	Watch    func(Report) error
	Every    time.Duration // how often Watch sees the report, and once at the end
}

// Play sends until the profile's duration is over or ctx ends, waits for what
// is under way, and reports. The end of ctx is no error: it is how endless
// traffic ends. An error of Watch ends the traffic.
func Play(ctx context.Context, o Options) (Report, error) {
	if err := o.Profile.Validate(); err != nil {
		return Report{}, err
	}
	if len(o.Images) == 0 {
		return Report{}, errors.New("traffic needs images to send")
	}
	playing, stop := context.WithCancel(ctx)
	defer stop()
	log := newLedger(o.Profile, time.Now())
	watched := make(chan error, 1)
	go func() {
		defer stop()
		watched <- watch(playing, o, log)
	}()
	send(playing, o, log)
	stop()
	failure := <-watched
	report := log.report(true)
	if failure != nil {
		return report, failure
	}
	return report, o.Watch(report)
}

// send plays the profile. Requests under way when the traffic ends are
// completed: a user does not vanish because nobody new comes.
func send(ctx context.Context, o Options, log *ledger) {
	completing := context.WithoutCancel(ctx)
	deck := openloop.NewDeck(o.Images, o.Profile.Seed)
	openloop.Run(ctx, time.Now(), o.Profile.arrivals(), o.InFlight, func(shot openloop.Shot) {
		if shot.Dropped {
			log.add(openloop.Answer{Kind: openloop.Dropped, Err: "too many requests in flight", Latency: shot.Lag()})
			return
		}
		log.add(o.Client.Post(completing, shot.Intended, o.Profile.Key(shot.Index), deck.At(shot.Index)))
	})
}

func watch(ctx context.Context, o Options, log *ledger) error {
	ticker := time.NewTicker(o.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := o.Watch(log.report(false)); err != nil {
				return err
			}
		}
	}
}
