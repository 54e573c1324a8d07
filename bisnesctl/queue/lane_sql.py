"""SQL about lanes, of which every chat with messages has one; sql/schema.sql describes their columns."""

#: The number of a message up to which all messages of the lane `l` are finished.
FINISHED = "CASE WHEN l.done < 0 THEN -l.done - 1 ELSE l.done END"
