(** Contraction in the Euclidean norm. With the rows of a layer as integers M over one power of two and an integer matrix
    F for which M^T M + F^T F - t I has rows and columns of absolute sum at most g: |M x|^2 <= (t + g) |x|^2. *)
From Coq Require Import Reals Lra Lia List ZArith.
From Bignums Require Import BigZ.
From Deqops Require Import Lists Layers.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** What is computed with for one layer: its constant is at most numerator / denominator. *)
Record spectrum : Type := {
  scale : Z;
  level : Z;
  gap : Z;
  factor : list (list Z);
  numerator : Z;
  denominator : Z
}.

(** ** The checker *)
Local Open Scope Z_scope.
Local Open Scope bool_scope.

(** a v + f, the shorter one filled with zeros *)
Fixpoint add_multiple (a : Z) (v f : list Z) : list Z :=
  match v, f with
  | [], f => f
  | p :: v', [] => a * p :: add_multiple a v' []
  | p :: v', r :: f' => a * p + r :: add_multiple a v' f'
  end.

(** F + w v^T *)
Fixpoint add_outer (w v : list Z) (F : list (list Z)) : list (list Z) :=
  match w, F with
  | [], F => F
  | a :: w', [] => add_multiple a v [] :: add_outer w' v []
  | a :: w', f :: F' => add_multiple a v f :: add_outer w' v F'
  end.

(** F + A^T A *)
Fixpoint add_gram (A : list (list Z)) (F : list (list Z)) : list (list Z) :=
  match A with [] => F | w :: A' => add_gram A' (add_outer w w F) end.

Fixpoint minus_diagonal (t : Z) (n : nat) : list (list Z) :=
  match n with O => [] | S n' => [- t] :: map (cons 0) (minus_diagonal t n') end.

Fixpoint absolute_sum (f : list Z) : Z := match f with [] => 0 | a :: f' => Z.abs a + absolute_sum f' end.

Fixpoint column_sums (F : list (list Z)) : list Z :=
  match F with [] => [] | f :: F' => add_multiple 1 (map Z.abs f) (column_sums F') end.

(** The same Gram matrix, computed with machine words. *)
Fixpoint words_multiple (a : bigZ) (v f : list bigZ) : list bigZ :=
  match v, f with
  | [], f => f
  | p :: v', [] => BigZ.mul a p :: words_multiple a v' []
  | p :: v', r :: f' => BigZ.add (BigZ.mul a p) r :: words_multiple a v' f'
  end.

Fixpoint words_outer (w v : list bigZ) (F : list (list bigZ)) : list (list bigZ) :=
  match w, F with
  | [], F => F
  | a :: w', [] => words_multiple a v [] :: words_outer w' v []
  | a :: w', f :: F' => words_multiple a v f :: words_outer w' v F'
  end.

Fixpoint words_gram (A : list (list bigZ)) (F : list (list bigZ)) : list (list bigZ) :=
  match A with [] => F | w :: A' => words_gram A' (words_outer w w F) end.

Definition fast_gram (A F : list (list Z)) : list (list Z) :=
  map (map BigZ.to_Z) (words_gram (map (map BigZ.of_Z) A) (map (map BigZ.of_Z) F)).

Section Checker.
(** How F + A^T A is computed. *)
Variable gram : list (list Z) -> list (list Z) -> list (list Z).

(** |M x|^2 <= (t + g) |x|^2 for x of n numbers *)
Definition spectral_ok (t g : Z) (n : nat) (M F : list (list Z)) : bool :=
  let E := gram (M ++ F) (minus_diagonal t n) in
  (0 <=? g) && forallb (fun f => absolute_sum f <=? g) E && forallb (fun a => a <=? g) (column_sums E).

Fixpoint common_rows (e : Z) (es : list Z) (rows : list (list Z)) : list (list Z) :=
  match es, rows with
  | f :: es', row :: rows' => map (Z.mul (2 ^ (e - f))) row :: common_rows e es' rows'
  | _, _ => []
  end.

Definition spectrum_ok (n : nat) (w : stored) (s : spectrum) : bool :=
  proper (phi w) && (0 <=? scale s) && (0 <=? numerator s) && (0 <? denominator s)
  && (length (exponents w) =? length (mantissas w))%nat
  && forallb (fun e => (0 <=? e) && (e <=? scale s)) (exponents w)
  && ((level s + gap s) * ((slope_numerator (phi w) * denominator s) * (slope_numerator (phi w) * denominator s))
      <=? (numerator s * slope_denominator (phi w) * 2 ^ scale s) * (numerator s * slope_denominator (phi w) * 2 ^ scale s))
  && spectral_ok (level s) (gap s) n (common_rows (scale s) (exponents w) (mantissas w)) (factor s).

Fixpoint spectra_ok (n : nat) (layers : list stored) (spectra : list spectrum) (size : nat) : bool :=
  match layers, spectra with
  | w :: layers', s :: spectra' => spectrum_ok n w s && spectra_ok (length (mantissas w)) layers' spectra' size
  | [], [] => (n =? size)%nat
  | _, _ => false
  end.

Definition product (f : spectrum -> Z) (spectra : list spectrum) : Z := fold_right (fun s total => f s * total) 1 spectra.

(** The layers map R^n into itself, and the product of their constants is at most kn / kd. *)
Definition euclidean_by (n : nat) (layers : list stored) (spectra : list spectrum) (kn kd : Z) : bool :=
  (0 <=? kn) && (kn <? kd) && (product numerator spectra * kd <=? kn * product denominator spectra)
  && spectra_ok n layers spectra n.
End Checker.

(** For the kernel, and for extraction. *)
Definition euclidean_ok := euclidean_by fast_gram.
Definition euclidean_plain_ok := euclidean_by add_gram.

Local Open Scope R_scope.

(** ** Soundness *)
Fixpoint integer_form (w : list Z) (x : list R) : R :=
  match w, x with a :: w', b :: x' => IZR a * b + integer_form w' x' | _, _ => 0 end.

Fixpoint bilinear (F : list (list Z)) (y x : list R) : R :=
  match F, y with f :: F', b :: y' => b * integer_form f x + bilinear F' y' x | _, _ => 0 end.

Fixpoint form_squares (A : list (list Z)) (x : list R) : R :=
  match A with [] => 0 | w :: A' => Rsqr (integer_form w x) + form_squares A' x end.

Fixpoint own_squares (x : list R) : R := match x with a :: x' => Rsqr a + own_squares x' | [] => 0 end.

Lemma words_multiple_ints a v : forall f,
  map BigZ.to_Z (words_multiple a v f) = add_multiple (BigZ.to_Z a) (map BigZ.to_Z v) (map BigZ.to_Z f).
Proof.
  induction v as [|p v IH]; intros [|r f]; cbn [words_multiple add_multiple map]; try reflexivity; rewrite IH;
    cbn [map]; f_equal; [apply BigZ.spec_mul | now rewrite BigZ.spec_add, BigZ.spec_mul].
Qed.

Lemma words_outer_ints w v : forall F,
  map (map BigZ.to_Z) (words_outer w v F) = add_outer (map BigZ.to_Z w) (map BigZ.to_Z v) (map (map BigZ.to_Z) F).
Proof.
  induction w as [|a w IH]; intros [|f F]; cbn [words_outer add_outer map]; try reflexivity; rewrite IH;
    cbn [map]; now rewrite words_multiple_ints.
Qed.

Lemma words_gram_ints A : forall F,
  map (map BigZ.to_Z) (words_gram A F) = add_gram (map (map BigZ.to_Z) A) (map (map BigZ.to_Z) F).
Proof.
  induction A as [|w A IH]; intros F; cbn [words_gram add_gram map]; [reflexivity|]. now rewrite IH, words_outer_ints.
Qed.

Lemma words_and_back F : map (map BigZ.to_Z) (map (map BigZ.of_Z) F) = F.
Proof.
  rewrite map_map. rewrite <- (map_id F) at 2. apply map_ext. intros f. rewrite map_map.
  rewrite <- (map_id f) at 2. apply map_ext. intros a. apply BigZ.spec_of_Z.
Qed.

Lemma fast_gram_right A F : fast_gram A F = add_gram A F.
Proof. unfold fast_gram. now rewrite words_gram_ints, !words_and_back. Qed.

Lemma own_squares_nonneg x : 0 <= own_squares x.
Proof. induction x as [|a x IH]; simpl; [lra|]. pose proof (Rle_0_sqr a). lra. Qed.

Lemma form_squares_nonneg A x : 0 <= form_squares A x.
Proof. induction A as [|w A IH]; simpl; [lra|]. pose proof (Rle_0_sqr (integer_form w x)). lra. Qed.

Lemma form_squares_app A B x : form_squares (A ++ B) x = form_squares A x + form_squares B x.
Proof. induction A; simpl; lra. Qed.

Lemma integer_form_add a v : forall f x, integer_form (add_multiple a v f) x = IZR a * integer_form v x + integer_form f x.
Proof.
  induction v as [|p v IH]; intros [|r f] [|b x]; cbn [add_multiple integer_form]; try lra;
    rewrite ?IH; cbn [integer_form]; rewrite ?plus_IZR, ?mult_IZR; lra.
Qed.

Lemma bilinear_add w v : forall F y x, bilinear (add_outer w v F) y x = integer_form w y * integer_form v x + bilinear F y x.
Proof.
  induction w as [|a w IH]; intros [|f F] [|b y] x; cbn [add_outer bilinear integer_form]; try lra;
    rewrite ?IH, ?integer_form_add; cbn [integer_form bilinear]; lra.
Qed.

Lemma bilinear_gram A : forall F x, bilinear (add_gram A F) x x = form_squares A x + bilinear F x x.
Proof.
  induction A as [|w A IH]; intros F x; simpl; [lra|]. rewrite IH, bilinear_add. unfold Rsqr. lra.
Qed.

Lemma bilinear_diagonal t x : bilinear (minus_diagonal t (length x)) x x = - IZR t * own_squares x.
Proof.
  induction x as [|a x IH]; cbn [length minus_diagonal bilinear own_squares integer_form]; [lra|].
  assert (shifted : forall F y, bilinear (map (cons 0%Z) F) y (a :: x) = bilinear F y x).
  { induction F as [|f F IHF]; intros [|b y]; cbn [map bilinear integer_form]; auto. rewrite IHF. lra. }
  rewrite shifted, IH, opp_IZR. unfold Rsqr. lra.
Qed.

Lemma absolute_sum_nonneg f : 0 <= IZR (absolute_sum f).
Proof. apply IZR_le. induction f; cbn [absolute_sum]; lia. Qed.

Lemma cell f b x : b * integer_form f x <= (IZR (absolute_sum f) * Rsqr b + integer_form (map Z.abs f) (map Rsqr x)) / 2.
Proof.
  revert x. induction f as [|a f IH]; intros [|c x]; cbn [absolute_sum integer_form map]; try (unfold Rsqr; nra).
  - rewrite plus_IZR, abs_IZR. pose proof (absolute_sum_nonneg f). pose proof (Rabs_pos (IZR a)).
    pose proof (Rle_0_sqr b). nra.
  - specialize (IH x). rewrite plus_IZR, abs_IZR.
    assert (b * (IZR a * c) <= Rabs (IZR a) * (Rsqr b + Rsqr c) / 2); [|lra].
    apply Rle_trans with (1 := Rle_abs _). replace (b * (IZR a * c)) with (IZR a * (b * c)) by ring.
    rewrite Rabs_mult. pose proof (Rabs_pos (IZR a)).
    assert (Rabs (b * c) <= (Rsqr b + Rsqr c) / 2); [|nra].
    pose proof (Rle_0_sqr (b - c)). pose proof (Rle_0_sqr (b + c)). unfold Rsqr in *.
    apply Rabs_le. lra.
Qed.

Lemma columns_bound g c x : Forall (fun a => (a <= g)%Z) c -> (0 <= g)%Z ->
  integer_form c (map Rsqr x) <= IZR g * own_squares x.
Proof.
  intros each g0. apply IZR_le in g0. revert x.
  induction each as [|a c le _ IH]; intros [|b x]; cbn [integer_form map own_squares]; try lra.
  - pose proof (Rle_0_sqr b). pose proof (own_squares_nonneg x). nra.
  - specialize (IH x). apply IZR_le in le. pose proof (Rle_0_sqr b). nra.
Qed.

Lemma bilinear_bound g F : (0 <= g)%Z -> Forall (fun f => (absolute_sum f <= g)%Z) F ->
  forall y x, bilinear F y x <= (IZR g * own_squares y + integer_form (column_sums F) (map Rsqr x)) / 2.
Proof.
  intros g0 each. induction each as [|f F le _ IH]; intros y x; cbn [bilinear column_sums].
  - apply IZR_le in g0. pose proof (own_squares_nonneg y). cbn [integer_form]. nra.
  - destruct y as [|b y]; cbn [own_squares]; rewrite integer_form_add.
    + assert (P : forall f, 0 <= integer_form (map Z.abs f) (map Rsqr x)).
      { clear. intros f. revert x. induction f as [|a f IH]; intros [|c x]; cbn [map integer_form]; try lra.
        specialize (IH x). rewrite abs_IZR. pose proof (Rabs_pos (IZR a)). pose proof (Rle_0_sqr c). nra. }
      specialize (P f). specialize (IH [] x). cbn [own_squares] in IH.
      destruct F; cbn [bilinear] in IH |- *; lra.
    + specialize (IH y x). pose proof (cell f b x). apply IZR_le in le. pose proof (Rle_0_sqr b). nra.
Qed.

Section Soundness.
Variable gram : list (list Z) -> list (list Z) -> list (list Z).
Hypothesis right : forall A F, gram A F = add_gram A F.

Lemma spectral_ok_sound t g n M F : spectral_ok gram t g n M F = true ->
  forall x, length x = n -> form_squares M x <= IZR (t + g) * own_squares x.
Proof.
  unfold spectral_ok. rewrite right, !Bool.andb_true_iff, !forallb_forall. intros [[g0 rows] columns] x <-.
  apply Z.leb_le in g0. rewrite plus_IZR.
  set (E := add_gram (M ++ F) (minus_diagonal t (length x))) in *.
  assert (each : Forall (fun f => (absolute_sum f <= g)%Z) E).
  { apply Forall_forall. intros f in_E. now apply Z.leb_le, rows. }
  assert (sums : Forall (fun a => (a <= g)%Z) (column_sums E)).
  { apply Forall_forall. intros f in_E. now apply Z.leb_le, columns. }
  pose proof (bilinear_bound g0 each x x) as one. pose proof (columns_bound x sums g0) as two.
  assert (total : bilinear E x x = form_squares M x + form_squares F x - IZR t * own_squares x).
  { unfold E. rewrite bilinear_gram, form_squares_app, bilinear_diagonal. lra. }
  pose proof (form_squares_nonneg F x). lra.
Qed.

Fixpoint difference (x y : list R) : list R :=
  match x, y with a :: x', b :: y' => (a - b) :: difference x' y' | _, _ => [] end.

Lemma difference_length x : forall y, length x = length y -> length (difference x y) = length x.
Proof. induction x as [|a x IH]; intros [|b y] same; simpl in *; try lia. rewrite IH; lia. Qed.

Lemma squares_difference x : forall y, squares x y = own_squares (difference x y).
Proof. induction x as [|a x IH]; intros [|b y]; simpl; try reflexivity. rewrite IH. reflexivity. Qed.

Lemma dot_common e f row : (0 <= f <= e)%Z -> forall x y, length x = length y ->
  dot (map (dyadic f) row) x - dot (map (dyadic f) row) y
  = integer_form (map (Z.mul (2 ^ (e - f))) row) (difference x y) / IZR (2 ^ e).
Proof.
  intros range. assert (e0 : (0 <= e)%Z) by lia. assert (f0 : (0 <= f)%Z) by lia. assert (d0 : (0 <= e - f)%Z) by lia.
  pose proof (dyadic_positive e0) as s. pose proof (dyadic_positive f0). pose proof (dyadic_positive d0).
  assert (split : IZR (2 ^ e) = IZR (2 ^ f) * IZR (2 ^ (e - f))).
  { rewrite <- mult_IZR, <- Z.pow_add_r by assumption. do 2 f_equal. lia. }
  induction row as [|a row IH]; intros [|b x] [|c y] same; cbn [length] in same; try lia;
    cbn [map dot difference integer_form]; try (unfold Rdiv; ring).
  specialize (IH x y ltac:(lia)).
  replace (dyadic f a * b + dot (map (dyadic f) row) x - (dyadic f a * c + dot (map (dyadic f) row) y))
    with (dyadic f a * (b - c) + (dot (map (dyadic f) row) x - dot (map (dyadic f) row) y)) by ring.
  rewrite IH. unfold dyadic. rewrite mult_IZR, split. field. lra.
Qed.

Lemma layer_squares a e x y : proper a = true -> (0 <= e)%Z -> length x = length y -> forall es rows c,
  Forall (fun f => (0 <= f <= e)%Z) es ->
  squares (layer a (dyadic_rows es rows) c x) (layer a (dyadic_rows es rows) c y)
  <= Rsqr (slope a) * form_squares (common_rows e es rows) (difference x y) / Rsqr (IZR (2 ^ e)).
Proof.
  intros ok e0 same. pose proof (dyadic_positive e0) as s. pose proof (Rlt_0_sqr (IZR (2 ^ e)) ltac:(lra)) as s2.
  pose proof (Rinv_0_lt_compat _ s2) as i2.
  induction es as [|f es IH]; intros [|row rows] c range; cbn [dyadic_rows layer squares common_rows form_squares];
    try (destruct c; cbn [squares]; unfold Rdiv; lra).
  destruct c as [|b c]; cbn [squares].
  - unfold Rdiv. pose proof (Rle_0_sqr (slope a)).
    pose proof (form_squares_nonneg (common_rows e es rows) (difference x y)).
    pose proof (Rle_0_sqr (integer_form (map (Z.mul (2 ^ (e - f))) row) (difference x y))).
    apply Rmult_le_pos; [apply Rmult_le_pos; lra | lra].
  - inversion range as [|? ? fe rest]; subst. specialize (IH rows c rest).
    pose proof (apply_lipschitz a (dot (map (dyadic f) row) x + b) (dot (map (dyadic f) row) y + b) ok) as lip.
    replace (dot (map (dyadic f) row) x + b - (dot (map (dyadic f) row) y + b))
      with (dot (map (dyadic f) row) x - dot (map (dyadic f) row) y) in lip by ring.
    rewrite (dot_common row fe x y same) in lip.
    set (D := integer_form (map (Z.mul (2 ^ (e - f))) row) (difference x y)) in *.
    set (p := apply a (dot (map (dyadic f) row) x + b)) in *.
    set (q := apply a (dot (map (dyadic f) row) y + b)) in *.
    assert (one : (p - q) * (p - q) <= Rsqr (slope a) * Rsqr D / Rsqr (IZR (2 ^ e))).
    { pose proof (slope_nonneg a) as sl0.
      assert (b0 : 0 <= slope a * Rabs (D / IZR (2 ^ e))) by (apply Rmult_le_pos; [exact sl0 | apply Rabs_pos]).
      pose proof (Rmult_le_compat _ _ _ _ (Rabs_pos (p - q)) (Rabs_pos (p - q)) lip lip) as sq.
      rewrite Rabs_sqr_self in sq. apply Rle_trans with (1 := sq). right.
      replace (slope a * Rabs (D / IZR (2 ^ e)) * (slope a * Rabs (D / IZR (2 ^ e))))
        with (Rsqr (slope a) * (Rabs (D / IZR (2 ^ e)) * Rabs (D / IZR (2 ^ e)))) by (unfold Rsqr; ring).
      rewrite Rabs_sqr_self. unfold Rsqr. field. lra. }
    unfold Rdiv in *. rewrite Rmult_plus_distr_l, Rmult_plus_distr_r. lra.
Qed.

Lemma common_range (e : Z) es : forallb (fun f => (0 <=? f) && (f <=? e))%Z%bool es = true ->
  Forall (fun f => (0 <= f <= e)%Z) es.
Proof.
  rewrite forallb_forall. intros each. apply Forall_forall. intros f in_es. specialize (each f in_es).
  apply Bool.andb_true_iff in each. destruct each as [lo hi]. apply Z.leb_le in lo. apply Z.leb_le in hi. lia.
Qed.

Lemma ratio_nonneg n d : (0 <= n)%Z -> (0 < d)%Z -> 0 <= rational n d.
Proof.
  intros n0 d0. apply IZR_le in n0. apply IZR_lt in d0. unfold rational, Rdiv.
  apply Rmult_le_pos; [exact n0 | left; now apply Rinv_0_lt_compat].
Qed.

Lemma spectrum_ok_sound n w s c x y : spectrum_ok gram n w s = true -> length c = length (mantissas w) ->
  length x = n -> length y = n ->
  0 <= rational (numerator s) (denominator s)
  /\ length (layer (phi w) (matrix w) c x) = length (mantissas w)
  /\ euclidean_distance (layer (phi w) (matrix w) c x) (layer (phi w) (matrix w) c y)
     <= rational (numerator s) (denominator s) * euclidean_distance x y.
Proof.
  unfold spectrum_ok. rewrite !Bool.andb_true_iff. intros [[[[[[[ok e0] n0] d0] len] range] le] spec] lc lx ly.
  apply Z.leb_le in e0. apply Z.leb_le in n0. apply Z.ltb_lt in d0. apply Nat.eqb_eq in len.
  apply common_range in range. apply Z.leb_le, IZR_le in le. rewrite !mult_IZR in le.
  pose proof (ratio_nonneg n0 d0) as k0. split; [exact k0|].
  assert (lm : length (matrix w) = length (mantissas w)) by (apply dyadic_rows_length; exact len).
  split; [rewrite layer_length by lia; exact lm|].
  pose proof (@layer_squares (phi w) (scale s) x y ok e0 ltac:(lia) (exponents w) (mantissas w) c range) as sq. fold (matrix w) in sq.
  pose proof (@spectral_ok_sound _ _ _ _ _ spec (difference x y)) as bound.
  rewrite difference_length in bound by lia. specialize (bound lx). rewrite <- squares_difference in bound.
  pose proof (squares_nonneg x y) as q0. pose proof (dyadic_positive e0) as s0. apply IZR_lt in d0. apply IZR_le in n0.
  set (v := squares x y) in *. set (p := IZR (2 ^ scale s)) in *.
  set (L := IZR (level s + gap s)) in *. set (kn := IZR (numerator s)) in *. set (kd := IZR (denominator s)) in *.
  assert (sd0 : 0 < IZR (slope_denominator (phi w))) by (destruct (phi w); cbv [slope_denominator]; lra).
  unfold euclidean_distance. apply square_le_sqrt; [exact k0 | exact q0 | apply squares_nonneg|].
  apply Rle_trans with (1 := sq). apply Rle_trans with (Rsqr (slope (phi w)) * (L * v) / Rsqr p).
  { unfold Rdiv. apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat, Rlt_0_sqr; lra|].
    apply Rmult_le_compat_l; [apply Rle_0_sqr | exact bound]. }
  replace (Rsqr (slope (phi w)) * (L * v) / Rsqr p) with (Rsqr (slope (phi w)) * L / Rsqr p * v)
    by (unfold Rdiv; ring).
  apply Rmult_le_compat_r; [exact q0|]. unfold slope, rational, Rsqr. fold kn kd.
  set (sn := IZR (slope_numerator (phi w))) in *. set (sd := IZR (slope_denominator (phi w))) in *.
  apply Rmult_le_reg_r with (sd * sd * (p * p) * (kd * kd)).
  { repeat apply Rmult_lt_0_compat; assumption. }
  replace (sn / sd * (sn / sd) * L / (p * p) * (sd * sd * (p * p) * (kd * kd))) with (L * (sn * kd * (sn * kd)))
    by (field; lra).
  replace (kn / kd * (kn / kd) * (sd * sd * (p * p) * (kd * kd))) with (kn * sd * p * (kn * sd * p)) by (field; lra).
  exact le.
Qed.

Lemma product_real f spectra : IZR (product f spectra) = fold_right (fun s total => IZR (f s) * total) 1 spectra.
Proof. induction spectra as [|s spectra IH]; simpl; [reflexivity|]. unfold product in *. simpl. now rewrite mult_IZR, IH. Qed.

Definition rates (spectra : list spectrum) : R :=
  fold_right (fun s total => rational (numerator s) (denominator s) * total) 1 spectra.

Lemma spectra_ok_sound size : forall layers n spectra shifts x y, spectra_ok gram n layers spectra size = true ->
  fits layers shifts -> length x = n -> length y = n ->
  0 <= rates spectra /\ length (network layers shifts x) = size
  /\ euclidean_distance (network layers shifts x) (network layers shifts y) <= rates spectra * euclidean_distance x y.
Proof.
  induction layers as [|w layers IH]; intros n [|s spectra] shifts x y ok fit lx ly; try discriminate.
  - simpl in ok. apply Nat.eqb_eq in ok. inversion fit; subst. unfold rates. simpl. repeat split; lra.
  - cbn [spectra_ok] in ok. apply Bool.andb_true_iff in ok. destruct ok as [one rest].
    inversion fit as [|? c ? cs lc more]; subst.
    destruct (@spectrum_ok_sound _ w s c x y one lc eq_refl ly) as [k0 [l1 b]].
    destruct (@spectrum_ok_sound _ w s c y x one lc ly eq_refl) as [_ [l2 _]].
    destruct (IH _ spectra cs _ _ rest more l1 l2) as [r0 [l b2]]. cbn [network rates fold_right]. fold (rates spectra).
    split; [now apply Rmult_le_pos|]. split; [exact l|].
    apply Rle_trans with (1 := b2). replace (rational (numerator s) (denominator s) * rates spectra)
      with (rates spectra * rational (numerator s) (denominator s)) by ring.
    rewrite Rmult_assoc. apply Rmult_le_compat_l; assumption.
Qed.

Lemma spectra_denominators size : forall layers n spectra, spectra_ok gram n layers spectra size = true ->
  0 < IZR (product denominator spectra)
  /\ rates spectra * IZR (product denominator spectra) = IZR (product numerator spectra).
Proof.
  induction layers as [|w layers IH]; intros n [|s spectra] ok; try discriminate.
  - unfold rates, product. simpl. lra.
  - cbn [spectra_ok] in ok. apply Bool.andb_true_iff in ok. destruct ok as [one rest].
    destruct (IH _ _ rest) as [d0 eq]. unfold spectrum_ok in one. rewrite !Bool.andb_true_iff in one.
    destruct one as [[[[[[[_ _] _] own] _] _] _] _]. apply Z.ltb_lt, IZR_lt in own.
    unfold product, rates in *. cbn [fold_right]. rewrite !mult_IZR. split; [now apply Rmult_lt_0_compat|].
    rewrite <- eq. unfold rational. field. lra.
Qed.

Lemma euclidean_by_converges n layers spectra kn kd : euclidean_by gram n layers spectra kn kd = true ->
  forall shifts, fits layers shifts -> converges n euclidean_distance (rational kn kd) (network layers shifts).
Proof.
  unfold euclidean_by. rewrite !Bool.andb_true_iff. intros [[[kn0 less] le] ok] shifts fit.
  apply Z.leb_le in kn0. apply Z.ltb_lt in less. assert (kd0 : 0 < IZR kd) by (apply IZR_lt; lia).
  apply IZR_le in kn0. apply IZR_lt in less. apply Z.leb_le, IZR_le in le. rewrite !mult_IZR in le.
  destruct (@spectra_denominators _ _ _ _ ok) as [d0 eq].
  assert (below : rates spectra <= rational kn kd).
  { unfold rational. apply Rmult_le_reg_r with (IZR kd * IZR (product denominator spectra)).
    { now apply Rmult_lt_0_compat. }
    replace (rates spectra * (IZR kd * IZR (product denominator spectra)))
      with (rates spectra * IZR (product denominator spectra) * IZR kd) by ring.
    rewrite eq. replace (IZR kn / IZR kd * (IZR kd * IZR (product denominator spectra)))
      with (IZR kn * IZR (product denominator spectra)) by (field; lra). exact le. }
  rewrite <- (repeat_length one n) at 1.
  apply contraction_converges with (J := WeightedSpace.join_l2); rewrite ?repeat_length.
  - apply euclidean_measures.
  - split.
    + unfold rational, Rdiv. apply Rmult_le_pos; [exact kn0 | left; now apply Rinv_0_lt_compat].
    + unfold rational, Rdiv. apply Rmult_lt_reg_r with (IZR kd); [exact kd0|].
      rewrite Rmult_assoc, Rinv_l by lra. lra.
  - intros x lx. exact (proj1 (proj2 (@spectra_ok_sound _ _ _ _ _ x x ok fit lx lx))).
  - intros x y lx ly. destruct (@spectra_ok_sound _ _ _ _ _ x y ok fit lx ly) as [_ [_ b]].
    apply Rle_trans with (1 := b). apply Rmult_le_compat_r; [apply sqrt_pos | exact below].
Qed.
End Soundness.

Theorem euclidean_converges n layers spectra kn kd : euclidean_ok n layers spectra kn kd = true ->
  forall shifts, fits layers shifts -> converges n euclidean_distance (rational kn kd) (network layers shifts).
Proof. apply euclidean_by_converges. exact fast_gram_right. Qed.

Theorem euclidean_plain_converges n layers spectra kn kd : euclidean_plain_ok n layers spectra kn kd = true ->
  forall shifts, fits layers shifts -> converges n euclidean_distance (rational kn kd) (network layers shifts).
Proof. apply euclidean_by_converges. reflexivity. Qed.
