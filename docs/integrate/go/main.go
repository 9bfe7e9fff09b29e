// Follows recommendations: go run . HOST:PORT TOPIC
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

type update struct {
	User     string           `json:"user_id"`
	Sequence int64            `json:"sequence"`
	Items    []map[string]any `json:"items"`
}

func main() {
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.ConsumerGroup("shop-feed-go"),
		kgo.ConsumeTopics(os.Args[2]), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		panic(err)
	}
	shown := map[string]int64{} // user to the sequence that is shown; keep it where you keep the lists
	for {
		client.PollFetches(context.Background()).EachRecord(func(record *kgo.Record) {
			var got update
			if json.Unmarshal(record.Value, &got) != nil || got.Sequence <= shown[got.User] {
				return // a user whose list was deleted; an update that came again after a crash
			}
			shown[got.User] = got.Sequence
			fmt.Print(got.User, " ", got.Sequence)
			for _, item := range got.Items {
				fmt.Print(" ", item["item_id"])
			}
			fmt.Println()
		})
	}
}
