"""The words of a job of a compiled loop: what it is told and what it answers, eight bytes each."""

from __future__ import annotations

# Of the job. POS, ROW, RECORD, LEFT and FULL are moved by the loop.
DATA, POS, END, ROW, ROW_MOST, RECORD, LEFT, DELIMITER, QUOTE, COLUMNS = range(10)
STARTS, ENDS, LEFT_OUT, POWERS, INDEX, INDEXED, FULL, HEADER, HEADER_SIZE, HEAD = range(10, 20)
# Of each column of the file, HEAD words from the begin. NULLS, LAST and LAST_DAY are moved by the loop.
KIND, OUT, VALID, NULLS, HEAP, HEAP_SIZE, MARKS, MARK_COUNT, EARLY = range(9)
LOW, HIGH, WIDTH, UNIT, DIGITS, ZONED, FORMAT, STEPS, LAST, LAST_DAY, WORDS = range(9, 20)
# What JSON has in place of some: the longest record, how often one was begun, whether other names are left; of each
# column its name in quotes with a colon, and the number of the attempt that has met it
LONGEST, ATTEMPT, CLOSED = HEADER_SIZE, INDEX, QUOTE
KEY, KEY_SIZE, SEEN = MARKS, MARK_COUNT, EARLY
MARK = 3  # words of a null marker: its size, its first eight bytes, and where it is
# Kinds of columns
SKIP, INTEGER, FLOAT64, FLOAT32, BOOLEAN, STRING, DATE, TIME, TIME_BY_FORMAT = range(9)
# Steps of a time format: a directive, or a character beyond them
YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, FRACTION, LITERAL = range(8)
# Of a job that counts values. FOUND is its answer
VALUES, OFFSETS, NULL_BITS, NULL_OFFSET, ROWS, SIZE, BITS, LEAST, RANGE, FACTOR, REAL = range(11)
COUNTS, ENTRIES, MOST, SLOTS, SLOT_COUNT, REGISTERS, FOUND, PLACES, PACKED, COUNT_WORDS = range(11, 21)
ENTRY = 4  # words of a value by hash: itself or its hash, a text's size, its first row, and how often it came
# What came of it
DONE, GIVEN_UP, HEAP_FULL = range(3)

ONE_IN, FEW = 3, 512  # records that may be left: one in so many, and somewhat more of the first
LOWEST_POWER, HIGHEST_POWER = -342, 308  # of ten, in a float64
