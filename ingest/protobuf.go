package ingest

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/promspool/promspool/filestore/exposition"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decodeProtobuf reads metric families that are each preceded by their length.
// The lengths are held against the body, which is in memory already.
func decodeProtobuf(body []byte, o Options) (*exposition.Families, error) {
	descriptor := (*dto.MetricFamily)(nil).ProtoReflect().Descriptor()
	// Two bytes may become a structure of a hundred. Real bodies have some ten
	// bytes for each.
	most := o.MaxBytes/8 + 1024
	left, all := most, body
	var families []*dto.MetricFamily
	for n := 1; len(body) > 0; n++ {
		message, size := protowire.ConsumeBytes(body)
		if size < 0 {
			return nil, refuse(http.StatusBadRequest, "the body is not a sequence of protobuf messages with their lengths: message %d%s is cut off or garbage%s", n, after(families), undelimited(all, n))
		}
		body = body[size:]
		left--
		switch err := weigh(message, descriptor, &left); {
		case errors.Is(err, errHeavy):
			return nil, refuse(http.StatusRequestEntityTooLarge, "the body has more than %d parts, the limit that follows from --push.max-bytes", most)
		case err != nil:
			return nil, refuse(http.StatusBadRequest, "message %d of the body%s is not a metric family: %v%s", n, after(families), err, undelimited(all, n))
		}
		family := new(dto.MetricFamily)
		if err := proto.Unmarshal(message, family); err != nil {
			return nil, refuse(http.StatusBadRequest, "message %d of the body%s is not a metric family", n, after(families))
		}
		families = append(families, family)
		if s := o.Limits.Series; s > 0 && (len(families) > s || len(family.GetMetric()) > s) {
			return nil, &exposition.SyntaxError{Reason: exposition.TooLarge, Msg: fmt.Sprintf("more than --push.max-series=%d samples: push fewer at a time, or raise the limit", s)}
		}
	}
	return exposition.FromProto(families, o.Limits, o.UTF8Names)
}

// after names the family before a message that cannot be read.
func after(families []*dto.MetricFamily) string {
	if len(families) == 0 {
		return ""
	}
	return ", after family " + exposition.Quote(families[len(families)-1].GetName()) + ","
}

// undelimited says what a body is that has no lengths.
func undelimited(body []byte, n int) string {
	left := int64(1 << 16)
	switch {
	case n > 1:
	case isPlainText(body):
		return "; the body is plain text: leave out the header Content-Type"
	case weigh(body, (*dto.MetricFamily)(nil).ProtoReflect().Descriptor(), &left) == nil:
		return "; the body is one message without its length: write the length before it"
	}
	return ""
}

var (
	errHeavy   = errors.New("too many messages")
	errGarbage = errors.New("not protobuf")
)

// weigh takes one off left for each message within a message, before anything
// is allocated for them.
func weigh(message []byte, d protoreflect.MessageDescriptor, left *int64) error {
	if *left < 0 {
		return errHeavy
	}
	fields := d.Fields()
	for len(message) > 0 {
		number, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errGarbage
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, typ, message); n < 0 {
			return errGarbage
		}
		value := message[:n]
		message = message[n:]
		if typ != protowire.BytesType {
			continue
		}
		field := fields.ByNumber(number)
		if field == nil || field.Message() == nil {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		*left--
		if err := weigh(inner, field.Message(), left); err != nil {
			return err
		}
	}
	return nil
}
