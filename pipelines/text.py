"""Text of other programs, shortened for a message of one line."""

MAX_CHARACTERS = 300


def one_line(text: str, *, end: bool = False) -> str:
    """`text` without line breaks and runs of blanks, cut to 300 characters.

    end     keep the last characters instead of the first: a driver of KFP prints its arguments before the cause
    """
    line = " ".join(text.split())
    return line[-MAX_CHARACTERS:] if end else line[:MAX_CHARACTERS]
