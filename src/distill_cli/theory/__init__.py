"""The theory bench: what distilled data encode, measured on multi-index models.

A numerical study of the claim that distilling two-layer networks trained by gradient on a
multi-index target of d inputs and r directions needs about r^2 d + L stored numbers, L the width
(Kinoshita, Nishikawa, Toyoizumi, arXiv 2603.14830, of which only the abstract was available: the
algorithms here realise the claim and are no reproduction of the paper's).
"""
