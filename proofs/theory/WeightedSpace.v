(** R^n with the weighted norms l1, l2 and linf: Banach spaces, built as products of weighted real lines. *)
From Coq Require Import Reals Lra Lia List.
From Deqops Require Import Metric BanachSpace.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** How the norms of two factors are joined; the laws are asked for nonnegative numbers only. *)
Record join : Type := {
  joined : R -> R -> R;
  join_left : forall a b, 0 <= a -> 0 <= b -> a <= joined a b;
  join_right : forall a b, 0 <= a -> 0 <= b -> b <= joined a b;
  join_below : forall a b, 0 <= a -> 0 <= b -> joined a b <= a + b;
  join_monotone : forall a b a' b', 0 <= a <= a' -> 0 <= b <= b' -> joined a b <= joined a' b';
  join_add : forall a b a' b', 0 <= a -> 0 <= b -> 0 <= a' -> 0 <= b' ->
    joined (a + a') (b + b') <= joined a b + joined a' b';
  join_scale : forall c a b, 0 <= c -> 0 <= a -> 0 <= b -> joined (c * a) (c * b) = c * joined a b
}.

Definition join_l1 : join.
Proof. refine {| joined := Rplus |}; intros; lra. Defined.

Definition join_linf : join.
Proof.
  refine {| joined := Rmax |}; intros.
  - apply Rmax_l.
  - apply Rmax_r.
  - apply Rmax_lub; lra.
  - pose proof (Rmax_l a' b'). pose proof (Rmax_r a' b'). apply Rmax_lub; lra.
  - pose proof (Rmax_l a b). pose proof (Rmax_r a b). pose proof (Rmax_l a' b'). pose proof (Rmax_r a' b').
    apply Rmax_lub; lra.
  - apply RmaxRmult. assumption.
Defined.

Definition hypotenuse (a b : R) : R := sqrt (a * a + b * b).

Lemma hypotenuse_square a b : hypotenuse a b * hypotenuse a b = a * a + b * b.
Proof. apply sqrt_sqrt. nra. Qed.

Lemma square_below a b : 0 <= b -> a * a <= b * b -> a <= b.
Proof. intros b0 squares. apply Rnot_lt_le. intros above. nra. Qed.

Lemma hypotenuse_add a b a' b' : hypotenuse (a + a') (b + b') <= hypotenuse a b + hypotenuse a' b'.
Proof.
  pose proof (sqrt_pos (a * a + b * b)) as p. pose proof (sqrt_pos (a' * a' + b' * b')) as p'.
  fold (hypotenuse a b) (hypotenuse a' b') in *.
  pose proof (hypotenuse_square a b) as h. pose proof (hypotenuse_square a' b') as h'.
  assert (cauchy_schwarz : a * a' + b * b' <= hypotenuse a b * hypotenuse a' b').
  { apply square_below; [nra|].
    replace (hypotenuse a b * hypotenuse a' b' * (hypotenuse a b * hypotenuse a' b'))
      with ((a * a + b * b) * (a' * a' + b' * b')) by (rewrite <- h, <- h'; ring).
    pose proof (Rle_0_sqr (a * b' - b * a')) as s. unfold Rsqr in s. nra. }
  apply square_below; [lra|]. rewrite hypotenuse_square. nra.
Qed.

Definition join_l2 : join.
Proof.
  refine {| joined := hypotenuse |}; intros.
  - apply square_below; [apply sqrt_pos|]. rewrite hypotenuse_square. nra.
  - apply square_below; [apply sqrt_pos|]. rewrite hypotenuse_square. nra.
  - apply square_below; [lra|]. rewrite hypotenuse_square. nra.
  - apply sqrt_le_1_alt. nra.
  - apply hypotenuse_add.
  - unfold hypotenuse. replace (c * a * (c * a) + c * b * (c * b)) with ((c * c) * (a * a + b * b)) by ring.
    rewrite sqrt_mult_alt, sqrt_square; [reflexivity | assumption | nra].
Defined.

(** The space of one point: R^0. *)
Definition nothing : banach.
Proof.
  refine {| point := unit; zero := tt; add _ _ := tt; neg _ := tt; scale _ _ := tt; norm _ := 0 |};
    try (intros; repeat match goal with x : unit |- _ => destruct x end; (reflexivity || lra)).
  intros u _. exists tt. intros eps pos. exists 0%nat. intros. exact pos.
Defined.

(** The real line with norm w |x|. *)
Definition weighted_line (w : posreal) : banach.
Proof.
  pose proof (cond_pos w) as pos.
  refine {| point := R; zero := 0; add := Rplus; neg := Ropp; scale := Rmult; norm x := w * Rabs x |};
    try (intros; ring).
  - intros x y. pose proof (Rabs_triang x y). nra.
  - intros a x. rewrite Rabs_mult. ring.
  - intros x none. apply Rmult_integral in none. destruct none as [none|none]; [lra|].
    destruct (Req_dec x 0) as [yes|no]; [exact yes|]. exfalso. exact (Rabs_no_R0 x no none).
  - intros u cau. destruct (R_complete u) as [l lim].
    { intros eps e0. destruct (cau (w * eps)) as [N HN]; [nra|]. exists N. intros n m Hn Hm.
      apply Rmult_lt_reg_l with (1 := pos). exact (HN n m Hn Hm). }
    exists l. intros eps e0. destruct (lim (eps / w)) as [N HN]; [apply Rdiv_lt_0_compat; assumption|].
    exists N. intros n Hn. specialize (HN n Hn). unfold R_dist, Rminus in HN.
    apply Rmult_lt_compat_l with (r := w) in HN; [|exact pos].
    replace (w * (eps / w)) with eps in HN by (field; lra). exact HN.
Defined.

Definition product (J : join) (E F : banach) : banach.
Proof.
  refine {| point := point E * point F; zero := (zero E, zero F);
            add x y := (add E (fst x) (fst y), add F (snd x) (snd y));
            neg x := (neg E (fst x), neg F (snd x));
            scale a x := (scale E a (fst x), scale F a (snd x));
            norm x := joined J (norm E (fst x)) (norm F (snd x)) |}.
  1-8: intros; repeat match goal with x : (_ * _)%type |- _ => destruct x end; simpl; f_equal;
    first [apply add_comm | apply add_assoc | apply add_zero | apply add_neg | apply scale_one
          | apply scale_scale | apply scale_sum | apply scale_add].
  - intros [x x'] [y y']; simpl.
    pose proof (norm_nonneg E). pose proof (norm_nonneg F).
    apply Rle_trans with (2 := @join_add J _ _ _ _ (H x) (H0 x') (H y) (H0 y')).
    apply join_monotone; split; auto using norm_add.
  - intros a [x x']; simpl. rewrite !norm_scale. apply join_scale; auto using Rabs_pos, norm_nonneg.
  - intros [x x'] none; simpl in *.
    pose proof (norm_nonneg E x) as p. pose proof (norm_nonneg F x') as p'.
    pose proof (join_left J p p'). pose proof (join_right J p p').
    f_equal; apply norm_definite; lra.
  - intros u cau.
    destruct (norm_full E (fun n => fst (u n))) as [l lim].
    { intros eps pos. destruct (cau eps pos) as [N HN]. exists N. intros n m Hn Hm.
      apply Rle_lt_trans with (2 := HN n m Hn Hm). apply join_left; apply norm_nonneg. }
    destruct (norm_full F (fun n => snd (u n))) as [l' lim'].
    { intros eps pos. destruct (cau eps pos) as [N HN]. exists N. intros n m Hn Hm.
      apply Rle_lt_trans with (2 := HN n m Hn Hm). apply join_right; apply norm_nonneg. }
    exists (l, l'). intros eps pos.
    destruct (lim (eps / 2)) as [N HN]; [lra|]. destruct (lim' (eps / 2)) as [K HK]; [lra|].
    exists (Nat.max N K). intros n Hn. simpl.
    specialize (HN n ltac:(lia)). specialize (HK n ltac:(lia)).
    apply Rle_lt_trans with (1 := join_below J (norm_nonneg E _) (norm_nonneg F _)). lra.
Defined.

(** R^n, n the number of weights; a point is x_1, (x_2, ... (x_n, tt)). *)
Fixpoint weighted_space (J : join) (weights : list posreal) : banach :=
  match weights with
  | [] => nothing
  | w :: rest => product J (weighted_line w) (weighted_space J rest)
  end.

(** The numbers w_i |x_i|. *)
Fixpoint magnitudes (J : join) (weights : list posreal) : point (weighted_space J weights) -> list R :=
  match weights with
  | [] => fun _ => []
  | w :: rest => fun x => w * Rabs (fst x) :: magnitudes J rest (snd x)
  end.

(** Its norms are the familiar ones: sum, root of the sum of squares, maximum of the w_i |x_i|. *)
Theorem weighted_norms (weights : list posreal) :
  (forall x, norm (weighted_space join_l1 weights) x = fold_right Rplus 0 (magnitudes join_l1 weights x))
  /\ (forall x, norm (weighted_space join_l2 weights) x
        = sqrt (fold_right (fun m total => m * m + total) 0 (magnitudes join_l2 weights x)))
  /\ (forall x, norm (weighted_space join_linf weights) x = fold_right Rmax 0 (magnitudes join_linf weights x)).
Proof.
  induction weights as [|w rest [l1 [l2 linf]]]; simpl.
  - repeat split; intros; auto. symmetry; exact sqrt_0.
  - split; [|split]; intros [x y]; simpl.
    + now rewrite l1.
    + unfold hypotenuse. rewrite l2. f_equal. f_equal. apply sqrt_sqrt.
      generalize (magnitudes join_l2 rest y). intros entries. induction entries; simpl; nra.
    + now rewrite linf.
Qed.
