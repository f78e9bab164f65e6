"""Reports: a day's or a week's figures as one document, and that document as text, page, print or spreadsheet."""
