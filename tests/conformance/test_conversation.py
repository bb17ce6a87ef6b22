from conformance.lab.conversation import reply_to


def test_repeats_exactly_the_words_heard():
    reply = reply_to("eight of spades four of clubs five")
    assert reply.text == "you said eight of spades four of clubs five"
    assert reply.spoken == "you said eight of spades, four of clubs, five."
    assert reply.transfer is None


def test_queen_of_clubs_hands_over_with_the_reason():
    reply = reply_to("four queen of clubs")
    assert reply.text == "transferring you"
    assert reply.transfer == {
        "event": "transfer",
        "target": "served-user",
        "data": {"reason": "the caller said: four queen of clubs", "heard": "four queen of clubs"},
    }


def test_another_queen_does_not():
    assert reply_to("queen of spades queen of hearts").transfer is None
