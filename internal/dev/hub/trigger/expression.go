package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
)

// Evaluate replaces every ${{ }} of a text by its value. contexts holds what
// github, inputs and vars are: the values of decoded JSON. A property that is
// not there is empty, as at GitHub; a context that is not there is an error.
func Evaluate(text string, contexts map[string]any) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		value, used, err := expression(rest, contexts)
		if err != nil {
			return "", err
		}
		b.WriteString(toText(value))
		text = rest[used:]
	}
}

// Value is the value of a text that is one expression.
func Value(text string, contexts map[string]any) (any, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "${{")
	if !ok {
		return text, nil
	}
	value, _, err := expression(rest, contexts)
	return value, err
}

// expression evaluates up to the closing braces and says how long that was.
func expression(text string, contexts map[string]any) (value any, used int, err error) {
	lexer := actionlint.NewExprLexer(text)
	node, problem := actionlint.NewExprParser().Parse(lexer)
	if problem != nil {
		return nil, 0, fmt.Errorf("expression ${{%s: %s", text, problem.Message)
	}
	value, err = evaluation(contexts).of(node)
	return value, lexer.Offset(), err
}

// evaluation is the contexts by name.
type evaluation map[string]any

func (c evaluation) of(node actionlint.ExprNode) (any, error) {
	switch n := node.(type) {
	case *actionlint.NullNode:
		return nil, nil
	case *actionlint.BoolNode:
		return n.Value, nil
	case *actionlint.IntNode:
		return float64(n.Value), nil
	case *actionlint.FloatNode:
		return n.Value, nil
	case *actionlint.StringNode:
		return n.Value, nil
	case *actionlint.VariableNode:
		value, ok := c[n.Name]
		if !ok {
			return nil, fmt.Errorf("context %q does not exist when a run is made", n.Name)
		}
		return value, nil
	case *actionlint.ObjectDerefNode:
		receiver, err := c.of(n.Receiver)
		return property(receiver, n.Property), err
	case *actionlint.IndexAccessNode:
		return c.index(n)
	case *actionlint.NotOpNode:
		value, err := c.of(n.Operand)
		return !truthy(value), err
	case *actionlint.LogicalOpNode:
		left, err := c.of(n.Left)
		if err != nil || truthy(left) == (n.Kind == actionlint.LogicalOpNodeKindOr) {
			return left, err
		}
		return c.of(n.Right)
	case *actionlint.CompareOpNode:
		return c.compare(n)
	case *actionlint.FuncCallNode:
		return c.call(n)
	}
	return nil, fmt.Errorf("expression with %T is not evaluated here", node)
}

func (c evaluation) index(n *actionlint.IndexAccessNode) (any, error) {
	operand, err := c.of(n.Operand)
	if err != nil {
		return nil, err
	}
	at, err := c.of(n.Index)
	if err != nil {
		return nil, err
	}
	if list, ok := operand.([]any); ok {
		if i, isNumber := at.(float64); isNumber && i >= 0 && int(i) < len(list) {
			return list[int(i)], nil
		}
		return nil, nil
	}
	return property(operand, toText(at)), nil
}

// property looks a name up without regard to case; nil where it is not there.
func property(of any, name string) any {
	switch m := of.(type) {
	case map[string]any:
		if v, ok := m[name]; ok {
			return v
		}
		for k, v := range m {
			if strings.EqualFold(k, name) {
				return v
			}
		}
	case map[string]string:
		for k, v := range m {
			if strings.EqualFold(k, name) {
				return v
			}
		}
	}
	return nil
}

// compare follows GitHub: texts without regard to case, different types as
// numbers.
func (c evaluation) compare(n *actionlint.CompareOpNode) (any, error) {
	left, err := c.of(n.Left)
	if err != nil {
		return nil, err
	}
	right, err := c.of(n.Right)
	if err != nil {
		return nil, err
	}
	var order int
	equal := false
	l, lText := left.(string)
	r, rText := right.(string)
	if lText && rText {
		l, r = strings.ToUpper(l), strings.ToUpper(r)
		order, equal = strings.Compare(l, r), l == r
	} else {
		a, b := toNumber(left), toNumber(right)
		if math.IsNaN(a) || math.IsNaN(b) {
			return n.Kind == actionlint.CompareOpNodeKindNotEq, nil
		}
		equal = a == b
		if a < b {
			order = -1
		} else if a > b {
			order = 1
		}
	}
	switch n.Kind {
	case actionlint.CompareOpNodeKindEq:
		return equal, nil
	case actionlint.CompareOpNodeKindNotEq:
		return !equal, nil
	case actionlint.CompareOpNodeKindLess:
		return order < 0, nil
	case actionlint.CompareOpNodeKindLessEq:
		return order <= 0, nil
	case actionlint.CompareOpNodeKindGreater:
		return order > 0, nil
	case actionlint.CompareOpNodeKindGreaterEq:
		return order >= 0, nil
	}
	return nil, fmt.Errorf("operator %s is unknown", n.Kind)
}

func (c evaluation) call(n *actionlint.FuncCallNode) (any, error) {
	var args []any
	for _, a := range n.Args {
		value, err := c.of(a)
		if err != nil {
			return nil, err
		}
		args = append(args, value)
	}
	name := strings.ToLower(n.Callee)
	if wanted := map[string]int{"contains": 2, "startswith": 2, "endswith": 2, "tojson": 1, "fromjson": 1}[name]; len(args) < wanted {
		return nil, fmt.Errorf("%s takes %d arguments", n.Callee, wanted)
	}
	switch name {
	case "format":
		return formatted(args)
	case "contains":
		return contains(args[0], args[1]), nil
	case "startswith":
		return strings.HasPrefix(strings.ToUpper(toText(args[0])), strings.ToUpper(toText(args[1]))), nil
	case "endswith":
		return strings.HasSuffix(strings.ToUpper(toText(args[0])), strings.ToUpper(toText(args[1]))), nil
	case "tojson":
		data, err := json.MarshalIndent(args[0], "", "  ")
		return string(data), err
	case "fromjson":
		var v any
		if err := json.Unmarshal([]byte(toText(args[0])), &v); err != nil {
			return nil, fmt.Errorf("fromJSON: %w", err)
		}
		return v, nil
	}
	return nil, fmt.Errorf("function %s is not evaluated when a run is made", n.Callee)
}

// place is an argument's place in format()'s text, or an escaped brace.
var place = regexp.MustCompile(`\{\{|\}\}|\{(\d+)\}`)

// formatted is format(): {0} takes an argument, {{ is a brace. What an argument
// brings is not read again.
func formatted(args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("format takes a text")
	}
	return place.ReplaceAllStringFunc(toText(args[0]), func(found string) string {
		switch found {
		case "{{":
			return "{"
		case "}}":
			return "}"
		}
		n, err := strconv.Atoi(found[1 : len(found)-1])
		if err != nil || n+1 >= len(args) {
			return found
		}
		return toText(args[n+1])
	}), nil
}

func contains(in, what any) bool {
	if list, ok := in.([]any); ok {
		for _, v := range list {
			if strings.EqualFold(toText(v), toText(what)) {
				return true
			}
		}
		return false
	}
	return strings.Contains(strings.ToUpper(toText(in)), strings.ToUpper(toText(what)))
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	}
	return true
}

func toNumber(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		if strings.TrimSpace(v) == "" {
			return 0
		}
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			return n
		}
	}
	return math.NaN()
}

func toText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		return "Array"
	}
	return "Object"
}
