package dataset_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

func headMoves(t *testing.T, b *objectstore.Bucket) {
	ctx := t.Context()
	if head, err := dataset.Head(ctx, b); head.Dataset != "" || err != nil {
		t.Fatalf("%+v, %v", head, err)
	}
	first := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	left := grow(t, b, request(newUpload("two").patients(t, 21, 25).send(t, b), first)).Dataset.Digest
	right := grow(t, b, request(newUpload("three").patients(t, 26, 30).send(t, b), first)).Dataset.Digest
	if err := dataset.Accept(ctx, b, left, "run"); !errors.Is(err, dataset.ErrParentMoved) {
		t.Errorf("accepted before its parent: %v", err)
	}
	for _, d := range []string{first, first, left, left} { // again changes nothing
		if err := dataset.Accept(ctx, b, d, "run-"+d); err != nil {
			t.Fatal(err)
		}
	}
	if err := dataset.Accept(ctx, b, right, "run"); !errors.Is(err, dataset.ErrParentMoved) || !strings.Contains(err.Error(), "key-of-three") {
		t.Errorf("accepted on a parent that moved: %v", err)
	}
	if err := dataset.Accept(ctx, b, strings.Repeat("0", 64), "run"); !errors.Is(err, dataset.ErrUnknown) {
		t.Errorf("accepted without existing: %v", err)
	}
	head, err := dataset.Head(ctx, b)
	if err != nil || head.Dataset != left || head.Parent != first || head.RunKey != "run-"+left {
		t.Errorf("%+v, %v", head, err)
	}
}

func acceptRace(t *testing.T, b *objectstore.Bucket) {
	first := grow(t, b, request(newUpload("one").patients(t, 1, 20).send(t, b), "")).Dataset.Digest
	if err := dataset.Accept(t.Context(), b, first, "run"); err != nil {
		t.Fatal(err)
	}
	var children []string
	for i := range 4 {
		u := newUpload(fmt.Sprint("child", i)).patients(t, 30+i, 30+i)
		children = append(children, grow(t, b, request(u.send(t, b), first)).Dataset.Digest)
	}
	errs := make(chan error, len(children))
	for _, c := range children {
		go func() { errs <- dataset.Accept(t.Context(), b, c, c) }()
	}
	won := 0
	for range children {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, dataset.ErrParentMoved):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d children were accepted", won)
	}
}

func refused(t *testing.T, b *objectstore.Bucket) {
	ctx := t.Context()
	if r, err := dataset.Refused(ctx, b, "k"); r != nil || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := dataset.Readmit(ctx, b, "k"); err == nil || !strings.Contains(err.Error(), "never refused") {
		t.Errorf("error %v", err)
	}
	for range 2 { // refused, readmitted, refused again
		if err := dataset.Refuse(ctx, b, "k", "d", "run", "worse"); err != nil {
			t.Fatal(err)
		}
		if r, err := dataset.Refused(ctx, b, "k"); r == nil || r.Reason != "worse" || r.Dataset != "d" || err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		if err := dataset.Readmit(ctx, b, "k"); err != nil {
			t.Fatal(err)
		}
		if r, err := dataset.Refused(ctx, b, "k"); r != nil || err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}
