"""An e-commerce database of any size and nine models over it: what refreshing is measured on."""
