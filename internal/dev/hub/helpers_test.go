package hub

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/google/go-github/v60/github"
)

type jsonRaw = json.RawMessage

func num(id int64) string { return strconv.FormatInt(id, 10) }

// status is that of a refusal as go-github tells it.
func status(err error) int {
	var refused *github.ErrorResponse
	if errors.As(err, &refused) {
		return refused.Response.StatusCode
	}
	return 0
}
